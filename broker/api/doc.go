// Package api is the admin API of a broker: what stands in its answers and orders, as JSON. Tools, hooks and screens
// read these types, and the broker fills them in. broker/door/README.md describes the paths.
package api

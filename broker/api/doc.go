// Package api is the admin API of a broker: what stands in its answers and orders, as JSON, and the Handler that
// answers them. Tools, hooks and screens read these types. A Handler is given the log, the state store and a Broker,
// which is what it asks and orders besides: so it works without a running one. broker/door/README.md describes the
// paths; a file holds one noun, its shapes first.
package api

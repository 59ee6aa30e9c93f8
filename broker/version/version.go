// Package version is the one place that says which release this is.
package version

// Version is this release; see CHANGELOG.md. Brokers and nodes say it to each other, for people.
const Version = "0.1.0"

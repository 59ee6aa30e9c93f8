// Package disktest has the places tests put databases on: memory that survives an emulated power cut with
// only what was synced (Memory), and any place with operations that fail on demand (Hooked).
package disktest

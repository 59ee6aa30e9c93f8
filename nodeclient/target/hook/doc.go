// Package hook is what drivers share whose database is somebody else's program: exec and webhook. They call it once for each
// increment, in order, and have it dump and load itself; what they cannot do is to store a position together with the data.
// So increments are applied at least once, unless the program keeps the position itself (Keeper).
package hook

// Package external is what drivers share whose database is somebody else's program: exec and webhook. They call it
// once for each increment, in order, and have it dump and load itself; what they cannot do is to store a position
// together with the data. So increments are applied at least once, unless the program keeps the position itself
// (Keeper). Nor do they store the topics of the copy: the broker alone remembers those, so that after `xmq client
// forget`, or the loss of its state store, a node must be started with the topics it had.
package external

package increments

import "errors"

// Errors of a read. Those of the storage below are disk.ErrStopped (the process must end) and disk.Damage (a person
// must look).
var (
	// ErrTrimmed is returned for a sequence that retention has freed.
	ErrTrimmed = errors.New("not kept any more")
	// ErrBeyond is returned for a sequence that does not exist yet.
	ErrBeyond = errors.New("beyond the end of the log")
	// ErrQuarantined is returned for a record in a damaged part, which is never served.
	ErrQuarantined = errors.New("set aside because it is damaged")
	// ErrLater is returned for a record that cannot be read now: the disk answers an open with an error, or no file
	// descriptor is left. It says nothing about the record: whoever needs it asks again, and nobody's state changes for
	// it.
	ErrLater = errors.New("cannot be read now")
)

// Errors that refuse one draft: nothing of it was stored, and the others are not hindered.
var (
	// ErrTooOld refuses a producer's number that is at or below its highest and not found any more.
	ErrTooOld = errors.New("too old to tell whether it was stored")
	// ErrKeyReused refuses a draft whose key was used for another body or topic.
	ErrKeyReused = errors.New("the idempotency key was used before")
	// ErrJump refuses a producer's number that is too far above its highest.
	ErrJump = errors.New("too large a step")
	// ErrTooLarge refuses a draft that no record can hold.
	ErrTooLarge = errors.New("increment too large")
	// ErrInvalid refuses a draft that breaks a rule of the log.
	ErrInvalid = errors.New("increment not allowed")
	// ErrFull refuses drafts after sequence 2^64-1.
	ErrFull = errors.New("the log has used its last sequence")
)

var (
	// ErrClosed is returned by calls that write after Close.
	ErrClosed = errors.New("the log is closed")
	// ErrNoProducer is returned by Reset for a producer that has never counted.
	ErrNoProducer = errors.New("has never counted")
)

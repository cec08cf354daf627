package freqcap

import "fmt"

// ProblemError is a call that the service refused. Code is stable; docs/reference/errors.md has them all.
type ProblemError struct {
	Status int
	Code   string
	Detail string
}

func (e *ProblemError) Error() string {
	return fmt.Sprintf("freqcap: %d %s: %s", e.Status, e.Code, e.Detail)
}

// Reason says why there is no answer of the service.
type Reason string

const (
	// Timeout: no answer before the deadline.
	Timeout Reason = "timeout"
	// Away: nobody listens, or the connection was cut.
	Away Reason = "away"
	// Refusing: a 5xx answer, or one that is not freqcap's.
	Refusing Reason = "unavailable"
)

// UnavailableError is a call without an answer of the service.
type UnavailableError struct {
	Reason Reason
	Detail string
	// Answer and Rest are those of CountAll: what was counted so far, and the events to send later, with their ids.
	Answer *BatchAnswer
	Rest   []EventBody

	retryAfter seconds
	partial    *BatchAnswer
}

func (e *UnavailableError) Error() string { return fmt.Sprintf("freqcap: %s: %s", e.Reason, e.Detail) }

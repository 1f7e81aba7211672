package tokens

import "fmt"

// Error is what this package returns for a bad argument.
type Error struct {
	sentence, next string
}

// Code returns "invalid_argument", the only kind of error there is here.
func (e *Error) Code() string { return "invalid_argument" }

// Error says what was wrong and what to do about it.
func (e *Error) Error() string { return e.sentence + ", " + e.next }

func invalid(sentence, next string, args ...any) *Error {
	return &Error{sentence: fmt.Sprintf(sentence, args...), next: next}
}

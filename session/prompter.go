package session

import (
	"context"
	"time"
)

// Answer is the outcome of a question to the user.
type Answer string

const (
	AnswerNone   Answer = "" // nobody could be asked
	AnswerAccept Answer = "accept"
	AnswerRefuse Answer = "refuse" // declined, cancelled or not answered in time
)

// AskWithin bounds the wait for the user's answer.
const AskWithin = 30 * time.Second

// Prompter puts a question that is answered by yes or no to the user of a client.
// It returns when ctx ends.
type Prompter func(ctx context.Context, question string) Answer

// WithPrompter registers a prompter while a tool call is in flight: a
// question of the sandbox goes to a user who waits for a call.
func (s *Session) WithPrompter(a Prompter) (leave func()) {
	s.promptersMu.Lock()
	defer s.promptersMu.Unlock()
	if s.prompters == nil {
		s.prompters = map[*Prompter]bool{}
	}
	s.prompters[&a] = true
	return func() {
		s.promptersMu.Lock()
		defer s.promptersMu.Unlock()
		delete(s.prompters, &a)
	}
}

// ask puts a question of the sandbox to the user of a running call, and records
// the answer. data says in the record what was asked for.
func (s *Session) ask(ctx context.Context, op, question string, data map[string]any) Answer {
	s.promptersMu.Lock()
	var to Prompter
	for a := range s.prompters {
		to = *a
		break
	}
	s.promptersMu.Unlock()
	if to == nil {
		return AnswerNone
	}
	span, err := s.config.Audit.Begin(ctx, s.id, "", op, data)
	if err != nil {
		return AnswerNone // what cannot be recorded must not happen
	}
	ctx, cancel := context.WithTimeout(ctx, AskWithin)
	defer cancel()
	answer := to(ctx, question)
	code := ""
	switch {
	case answer == AnswerRefuse && ctx.Err() != nil:
		code = "cancelled"
	case answer != AnswerAccept:
		code = "permission_denied"
	}
	span.End(ctx, s.id, code, map[string]any{"answer": string(answer)})
	return answer
}

// note records something that happened in the sandbox on its own, with no call
// of a tool around it.
func (s *Session) note(op, code string, data map[string]any) {
	s.config.Audit.Note(context.Background(), s.id, op, code, data)
}

package main

import (
	"strings"

	"github.com/spf13/pflag"

	"mcp-sandbox/session"
)

// sessionSettings are the flags about what a session is made of and what is
// recorded of it, as text until load has read them all.
type sessionSettings struct {
	auditLog    []string
	auditStrict bool
}

func registerSession(f *pflag.FlagSet, s *settings) {
	f.StringSliceVar(&s.life.auditLog, "audit-log", nil, "record every tool call, as JSON lines, in this file, on stderr, or at an http(s) address")
	f.BoolVar(&s.life.auditStrict, "audit-strict", false, "refuse calls that cannot be recorded")
}

// loadSession turns the texts into what package session takes. It opens the
// audit log last, so that a bad setting leaves no file behind.
func (s *settings) loadSession() error {
	if len(s.life.auditLog) == 0 {
		if s.life.auditStrict {
			return badSetting("audit-strict needs an audit log, name one with audit-log")
		}
		return nil
	}
	var sinks session.AuditSinks
	for _, to := range s.life.auditLog {
		if to != "stderr" && to != "-" && !strings.Contains(to, "://") {
			s.session.Private = append(s.session.Private, to)
		}
	}
	if err := s.session.CheckPrivate(); err != nil {
		return err
	}
	for _, to := range s.life.auditLog {
		sink, err := session.OpenAuditSink(to, s.life.auditStrict, s.session.Log)
		if err != nil {
			_ = sinks.Close()
			return err
		}
		sinks = append(sinks, sink)
	}
	s.session.Audit = session.NewAuditor(session.AuditOptions{Sink: sinks, Strict: s.life.auditStrict, Log: s.session.Log})
	return nil
}

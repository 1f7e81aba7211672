package main

import (
	"os"
	"strings"

	"github.com/spf13/pflag"

	"mcp-sandbox/audit"
	"mcp-sandbox/gitconfig"
	"mcp-sandbox/manifest"
	"mcp-sandbox/session"
)

// sessionSettings are the flags about what a session is made of and what is
// recorded of it, as text until load has read them all.
type sessionSettings struct {
	manifest    string
	expose      []string
	stageApply  string
	auditLog    []string
	auditStrict bool
}

func registerSession(f *pflag.FlagSet, s *settings) {
	f.StringVar(&s.sessionFlags.manifest, "manifest", "", "JSON or TOML file: what a new workspace holds, its environment, grants and ports")
	f.StringVar(&s.session.Name, "session", "", "name of a session that is kept on exit and resumed by the next server")
	f.BoolVar(&s.session.Staged, "staged", false, "keep --root as it is: what sessions change waits until it is applied with mcp-sandbox review")
	f.StringVar(&s.sessionFlags.stageApply, "stage-apply", "person", "with --staged, who applies changes: person, or model for those that are not protected, executable, opened to others or in conflict")
	f.StringSliceVar(&s.sessionFlags.expose, "expose", nil, "port that expose_port may open on this machine's loopback, or any")
	f.StringSliceVar(&s.sessionFlags.auditLog, "audit-log", nil, "record every tool call, as JSON lines, in this file, on stderr, or at an http(s) address")
	f.BoolVar(&s.sessionFlags.auditStrict, "audit-strict", false, "refuse calls that cannot be recorded")
	f.StringVar(&s.session.From, "from", "", "what a new or empty workspace starts with: a tar file, a snapshot of --root (ID, label or latest), or ROOT@ID for one of another directory")
	registerSnapshots(f, s)
}

// loadSession turns the texts into what package session takes. It opens the
// audit log last, so that a bad setting leaves no file behind.
func (s *settings) loadSession() error {
	if err := s.loadSnapshots(); err != nil {
		return err
	}
	switch s.sessionFlags.stageApply {
	case "person":
	case "model":
		s.session.StageApply = s.session.Staged // else it is for another command, see checkNeeds
	default:
		return badSetting("stage-apply is %q; use person or model", s.sessionFlags.stageApply)
	}
	ports, err := session.ParsePorts(s.sessionFlags.expose)
	if err != nil {
		return err
	}
	s.session.Expose = ports
	if s.sessionFlags.manifest != "" {
		if s.session.Manifest, err = manifest.Load(s.sessionFlags.manifest); err != nil {
			return err
		}
		// Its grants and root count for what is out of a session's reach.
		s.session.Private = append(s.session.Private, s.sessionFlags.manifest)
	}
	if err := s.loadStore(); err != nil {
		return err
	}
	if err := s.session.CheckFrom(); err != nil {
		return err
	}
	if len(s.sessionFlags.auditLog) == 0 {
		return nil
	}
	var sinks audit.Sinks
	for _, to := range s.sessionFlags.auditLog {
		if to != "stderr" && to != "-" && !strings.Contains(to, "://") {
			s.session.Private = append(s.session.Private, to)
		}
	}
	if err := s.session.CheckPrivate(); err != nil {
		return err
	}
	if !s.records {
		return nil
	}
	for _, to := range s.sessionFlags.auditLog {
		sink, err := audit.OpenSink(to, s.sessionFlags.auditStrict, s.session.Log)
		if err != nil {
			_ = sinks.Close()
			return err
		}
		sinks = append(sinks, sink)
	}
	s.session.Audit = audit.New(audit.Options{Sink: sinks, Strict: s.sessionFlags.auditStrict, Log: s.session.Log})
	return nil
}

// loadGitUser takes what git needs to make commits from the user's own
// configuration, or from the flag.
func (s *settings) loadGitUser() error {
	if home, err := os.UserHomeDir(); err == nil {
		s.session.Git = gitconfig.ReadUser(home, os.Getenv("XDG_CONFIG_HOME"))
	}
	if s.gitUser == "" {
		return nil
	}
	name, email, ok := gitconfig.ParseUser(s.gitUser)
	if !ok {
		return badSetting("git-user is %q; write \"Name <mail>\"", s.gitUser)
	}
	s.session.Git.Name, s.session.Git.Email = name, email
	return nil
}

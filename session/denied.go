package session

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"mcp-sandbox/refusal"
	"mcp-sandbox/sandbox"
)

const (
	// mostExplained bounds the lines of one result about what was refused.
	mostExplained = 4
	// A minute's denials of one session in the audit log: a command that is refused
	// endlessly must not push other records out of the log.
	mostDenialRecords  = 60
	denialRecordWindow = time.Minute
)

// explain adds to a result what the sandbox refused the command, each once, and
// counts and records what is new. dir is where the command ran.
func (s *Session) explain(ctx context.Context, r *Result, dir string) {
	for _, d := range r.Refused {
		s.countDenial(d)
	}
	told := r.Denied
	if r.Exit != nil && r.Exit.Code != 0 {
		for _, d := range s.claimed(ctx, r, dir) {
			same := func(o sandbox.Denial) bool { return o.Kind == d.Kind && o.Subject == d.Subject }
			if !slices.ContainsFunc(slices.Concat(r.Refused, told), same) {
				s.countDenial(d)
				told = append(told, d)
			}
		}
	}
	var lines []string
	for _, d := range told {
		if text := s.denialText(d); text != "" && !slices.Contains(lines, text) && len(lines) < mostExplained {
			lines = append(lines, text)
		}
	}
	r.Notices = append(r.Notices, lines...)
}

// Explain is what explain adds for a command whose output went elsewhere.
func (s *Session) Explain(ctx context.Context, p sandbox.Process, status sandbox.ExitStatus) []string {
	r := Result{Exit: &status}
	if d, ok := p.(sandbox.Denier); ok {
		r.Refused = d.Denied()
		for _, v := range r.Refused {
			// A program tries a connection because it was asked for one.
			if status.Code != 0 || v.Kind == sandbox.DenialNetwork {
				r.Denied = append(r.Denied, v)
			}
		}
	}
	s.explain(ctx, &r, s.root)
	return r.Notices
}

// claimed are refusals that no layer reported and that the output mentions.
// Each is checked against what the sandbox does: the words alone prove nothing.
func (s *Session) claimed(ctx context.Context, r *Result, dir string) []sandbox.Denial {
	var out []sandbox.Denial
	add := func(kind sandbox.DenialKind, subject string) {
		out = append(out, sandbox.Denial{Kind: kind, Subject: subject})
	}
	judge, _ := s.sandbox.(sandbox.Judge)
	claims := refusal.Read(r.Output)
	if xfsz := int(syscall.SIGXFSZ); r.Exit.Code == 128+xfsz {
		claims = append(claims, refusal.Claim{Cause: refusal.FileSize})
	}
	if r.Exit.OOM {
		add(sandbox.DenialLimit, string(sandbox.LimitMemory))
	}
	for _, c := range claims {
		switch c.Cause {
		case refusal.ReadOnly, refusal.Permission:
			for _, p := range c.Subjects {
				if !path.IsAbs(p) {
					p = path.Join(dir, p)
				}
				p = path.Clean(p)
				switch {
				case c.Cause == refusal.Permission && s.hidden.Covers(p):
					add(sandbox.DenialHidden, p)
				case judge != nil && judge.Refuses(p, c.Cause == refusal.ReadOnly):
					add(sandbox.DenialOutside, p)
				}
			}
		case refusal.Name, refusal.Network:
			if !s.hasNetwork() && !s.reported(r, c.Cause) {
				add(sandbox.DenialName, strings.Join(c.Subjects, ""))
			}
		case refusal.Rights:
			if s.sandbox.Report().Level != sandbox.LevelNone {
				add(sandbox.DenialRights, "sudo")
			}
		default:
			if flag := s.limitHit(ctx, r, c, dir); flag != "" {
				add(sandbox.DenialLimit, flag)
			}
		}
	}
	// A line that names the host replaces one without.
	named := func(d sandbox.Denial) bool { return d.Kind == sandbox.DenialName && d.Subject != "" }
	if slices.ContainsFunc(out, named) || slices.ContainsFunc(r.Denied, named) {
		out = slices.DeleteFunc(out, func(d sandbox.Denial) bool { return d.Kind == sandbox.DenialName && d.Subject == "" })
	}
	return out
}

// hasNetwork reports whether commands can reach anything but themselves.
func (s *Session) hasNetwork() bool {
	if s.config.Network == sandbox.NetworkHost {
		return true
	}
	if s.config.Network != sandbox.NetworkAllow {
		return s.sandbox.Report().Level == sandbox.LevelNone
	}
	return true
}

// reported says whether the sandbox itself has told what was tried of the network,
// so that words add nothing. Without a network it tells of sockets and no more:
// whether one was for a name, and which, or only a look at what there is, are the
// program's to say.
func (s *Session) reported(r *Result, cause refusal.Cause) bool {
	conns, ok := s.sandbox.(interface{ SeesConns() bool })
	if s.config.Network == sandbox.NetworkNone {
		isSocket := func(d sandbox.Denial) bool { return d.Kind == sandbox.DenialSocket }
		return ok && conns.SeesConns() && !slices.ContainsFunc(slices.Concat(r.Refused, r.Denied), isSocket)
	}
	if cause == refusal.Name {
		n, ok := s.sandbox.(interface{ AnswersNames() bool })
		return ok && n.AnswersNames()
	}
	return ok && conns.SeesConns()
}

// limitHit is the limit of the session that a claim is about, "" for none. A
// command that lowers a limit of its own is not the session's doing.
func (s *Session) limitHit(ctx context.Context, r *Result, c refusal.Claim, dir string) string {
	meter, ok := s.sandbox.(sandbox.LimitMeter)
	if !ok || strings.Contains(r.Command, "ulimit") || strings.Contains(r.Command, "prlimit") {
		return ""
	}
	limit := map[refusal.Cause]sandbox.Limit{
		refusal.Space: sandbox.LimitTmp, refusal.FileSize: sandbox.LimitFileSize,
		refusal.OpenFiles: sandbox.LimitOpenFiles, refusal.Processes: sandbox.LimitProcs,
	}[c.Cause]
	paths := make([]string, len(c.Subjects))
	for i, p := range c.Subjects {
		if paths[i] = p; !path.IsAbs(p) {
			paths[i] = path.Join(dir, p)
		}
	}
	if meter.LimitReached(ctx, limit, paths) {
		return string(limit)
	}
	return ""
}

// denialText is the one line about a denial: what, why, and what a person could
// change.
func (s *Session) denialText(d sandbox.Denial) string {
	name := sandbox.OneLine(d.Subject)
	switch d.Kind {
	case sandbox.DenialProtected:
		by := "no setting allows it"
		if flag := s.protectedBy(d.Subject); flag != "" {
			by = "the operator can start the server without --protect " + sandbox.OneLine(flag)
		}
		return "sandbox: " + name + " was not changed: this path is protected, because programs outside the sandbox obey what it holds; " + by
	case sandbox.DenialHidden:
		flag := "--deny-read"
		if s.config.DenySecrets {
			flag = "--deny-read or --deny-secrets"
		}
		return "sandbox: " + name + " cannot be read: " + flag + " hides it; the operator can change that setting"
	case sandbox.DenialOutside:
		if s.config.ReadOnlyRoot && (d.Subject == s.root || within(d.Subject, s.root)) {
			return "sandbox: " + name + " was not changed: the workspace is read-only; the operator can start the server without --read-only"
		}
		return "sandbox: " + name + " was not changed: it is outside the workspace, where everything is read-only; " + s.writeAdvice(d.Subject)
	case sandbox.DenialName:
		what := "the network was not reached"
		if to, err := netip.ParseAddrPort(d.Subject); err == nil {
			what = name + " was not reached"
			if name = to.Addr().String(); to.Port() != 80 && to.Port() != 443 {
				name = to.String()
			}
			name = " --allow-host " + name
		} else if name != "" {
			what = "the name " + name + " was not looked up"
			name = " --allow-host " + name
		}
		return "network: " + what + ": this session has " + s.networkText() + "; the operator can allow it with --network allow" + name
	case sandbox.DenialRights:
		return "sandbox: " + name + " has no effect: commands can never get the rights of another user; no setting allows it; install into the workspace or the home directory instead"
	case sandbox.DenialNetwork:
		return d.Text
	case sandbox.DenialLimit:
		return s.limitText(sandbox.Limit(d.Subject))
	}
	return ""
}

func (s *Session) networkText() string {
	if s.config.Network == sandbox.NetworkNone || s.sandbox.Report().Level == sandbox.LevelLandlock {
		return "no network"
	}
	return "no network but its own loopback"
}

// protectedBy is the --protect of the operator that covers p, "" where it is
// protected by default.
func (s *Session) protectedBy(p string) string {
	for _, rel := range s.config.Protect {
		at := filepath.Join(s.root, strings.TrimPrefix(rel, "**/"))
		if p == at || strings.HasPrefix(p, at+"/") {
			return rel
		}
	}
	return ""
}

// writeAdvice says what would open p for writing.
func (s *Session) writeAdvice(p string) string {
	for _, g := range s.config.Read {
		if p == g || strings.HasPrefix(p, strings.TrimSuffix(g, "/")+"/") {
			return "the operator granted " + sandbox.OneLine(g) + " for reading only and can use --write instead of --read"
		}
	}
	dir := path.Dir(p)
	if dir == "/" || within(p, "/proc") || within(p, "/sys") || within(p, "/dev") {
		return "no setting allows it"
	}
	return "the operator can allow it with --write " + sandbox.OneLine(dir)
}

// limitText explains a limit.
func (s *Session) limitText(l sandbox.Limit) string {
	of := s.config.Limits.WithDefaults()
	switch l {
	case sandbox.LimitTmp:
		return fmt.Sprintf("sandbox: /tmp and the private home are full: together they hold %s; remove files, or the operator can raise --limit-tmp", byteText(of.Tmp))
	case sandbox.LimitFileSize:
		return fmt.Sprintf("sandbox: a file reached the limit of %s; write less into one file, or the operator can raise --limit-file-size", byteText(of.FileSize))
	case sandbox.LimitOpenFiles:
		return fmt.Sprintf("sandbox: a process reached the limit of %d open files; close some, or the operator can raise --limit-open-files", of.OpenFiles)
	case sandbox.LimitProcs:
		return fmt.Sprintf("sandbox: the session reached its limit of %d processes and threads; end some, or the operator can raise --limit-procs", of.Procs)
	case sandbox.LimitMemory:
		return fmt.Sprintf("sandbox: the session reached its memory limit of %s and a process was killed; use less, or the operator can raise --limit-memory", byteText(of.Memory))
	}
	return ""
}

// byteText writes a size as the flags take it.
func byteText(n int64) string {
	for _, u := range []struct {
		shift int
		name  string
	}{{40, "T"}, {30, "G"}, {20, "M"}, {10, "K"}} {
		if n >= 1<<u.shift && n%(1<<u.shift) == 0 {
			return fmt.Sprintf("%d%s", n>>u.shift, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// countDenial puts a denial into the metrics and the audit log. Connections have
// been by their proxy, and a socket counts when the output speaks of it.
func (s *Session) countDenial(d sandbox.Denial) {
	if d.Kind == sandbox.DenialNetwork || d.Kind == sandbox.DenialSocket {
		return
	}
	code, kind := "permission_denied", "file"
	data := map[string]any{"reason": string(d.Kind), "path": d.Subject}
	switch d.Kind {
	case sandbox.DenialProtected:
		code = "path_protected"
	case sandbox.DenialName:
		code, kind, data = "host_not_allowed", "network", map[string]any{"reason": string(d.Kind), "host": d.Subject}
	case sandbox.DenialRights:
		data = map[string]any{"reason": string(d.Kind), "program": d.Subject}
	case sandbox.DenialLimit:
		code, kind, data = "limit_reached", "limit", map[string]any{"limit": d.Subject}
	}
	if s.config.Denied != nil {
		s.config.Denied(kind)
	}
	s.denialsMu.Lock()
	now := s.config.now()
	if now.Sub(s.denialsBegan) >= denialRecordWindow {
		s.denialsBegan, s.denialsRecorded = now, 0
	}
	s.denialsRecorded++
	record := s.denialsRecorded <= mostDenialRecords
	if !record {
		s.denialsOmitted++
	} else if s.denialsOmitted > 0 {
		data["omitted_before"] = s.denialsOmitted
		s.denialsOmitted = 0
	}
	s.denialsMu.Unlock()
	if record {
		s.note("command.denied", code, data)
	}
}

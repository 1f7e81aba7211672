package confine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// startTimeout bounds how long init may take; a start is a few milliseconds.
const startTimeout = 30 * time.Second

// Start makes a sandbox as [plan] decides: of the levels that Level and MinLevel
// allow, the strongest this host gives. It uses the waiting init where that fits;
// then the next is booted. It fails with code confinement_unavailable when no level
// starts, and with invalid_argument, not_found or not_a_directory for a bad Policy.
func (w *WarmInit) Start(ctx context.Context, p sandbox.Policy) (*Sandbox, error) {
	asked := p.Limits
	if err := normalise(&p); err != nil {
		return nil, err
	}
	id, err := identify(&p)
	if err != nil {
		return nil, err
	}
	host := assumed()
	for tries := 1; ; {
		pl, _, err := plan(p, host)
		if err != nil {
			return nil, err
		}
		if id.owner.needed() && p.Level == sandbox.LevelAuto && pl.Level == sandbox.LevelLandlock {
			return nil, refuseRoot("the workspace", host.Namespaces.Reason)
		}
		s, err := w.startLevel(ctx, &p, id, pl, host)
		if err == nil {
			if err := s.enforced(asked, pl.Level); err != nil {
				s.Close()
				return nil, err
			}
			return s, nil
		}
		var un *unavailable
		if !errors.As(err, &un) {
			return nil, err
		}
		if passes(un.err) {
			if tries == startTries {
				return nil, errorf("confinement_unavailable", nil, "no session starts now: %s: %s; the host lacks it for the moment, and the level is not lowered for that; try again", un.step, errnoText(un.err))
			}
			select {
			case <-time.After(time.Duration(tries) * startPause):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			tries++
			continue
		}
		if p.Stage != "" {
			return nil, stageRefused(un)
		}
		p.Log.Log(ctx, fellOnce(un), "confinement level did not start", "level", string(pl.Level), "step", un.step, "error", un.err)
		if pl.Level == sandbox.LevelNone {
			return nil, errorf("confinement_unavailable", nil, "no process for the session started: %s: %s; %s", un.step, errnoText(un.err), cmp.Or(un.remedy, remedyFell))
		}
		why := Support{Reason: fmt.Sprintf("the level %s did not start: %s: %s", pl.Level, un.step, errnoText(un.err)), Remedy: cmp.Or(un.remedy, remedyFell)}
		host = host.without(pl.Level, why, probed())
	}
}

// startTries is how often a start is tried for which the host lacks processes, memory
// or descriptors, startPause the pause after the first; the later ones are longer.
const (
	startTries = 4
	startPause = 50 * time.Millisecond
)

// passes says whether a start failed for want of what another moment may have. A
// lower level is not an answer to that: whoever uses processes up could lower the level
// of everybody else's next session.
func passes(err error) bool {
	for _, e := range []error{unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// fallsTold are the falls that were logged as a warning. They are the host's, and
// so the same for every session; its report names them each time.
var fallsTold sync.Map

func fellOnce(un *unavailable) slog.Level {
	if _, told := fallsTold.LoadOrStore(un.Error(), true); told {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// unavailable is a level this host cannot give.
type unavailable struct {
	step   string
	err    error
	remedy string // "" for remedyFell
}

func (u *unavailable) Error() string { return u.step + ": " + u.err.Error() }
func (u *unavailable) Unwrap() error { return u.err }

// weaker says whether l is below least; nothing is below "".
func weaker(l, least sandbox.Level) bool {
	have, _ := levelRank(l)
	need, _ := levelRank(least)
	return least != "" && have < need
}

// normalise fills defaults and refuses what cannot be meant.
func normalise(p *sandbox.Policy) error {
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	if p.Level == "" {
		p.Level = sandbox.LevelAuto
	}
	if p.Network == "" {
		p.Network = sandbox.NetworkLoopback
	}
	if _, ok := levelRank(p.Level); !ok && p.Level != sandbox.LevelAuto {
		return errorf("invalid_argument", nil, "the confinement level %q does not exist; use auto, namespaces, namespaces-noproc, landlock or none", string(p.Level))
	}
	if p.MinLevel == sandbox.LevelAuto {
		p.MinLevel = ""
	}
	if _, ok := levelRank(p.MinLevel); !ok && p.MinLevel != "" {
		return errorf("invalid_argument", nil, "the minimum confinement level %q does not exist; use namespaces, namespaces-noproc, landlock or none", string(p.MinLevel))
	}
	if p.Level != sandbox.LevelAuto && weaker(p.Level, p.MinLevel) {
		return errorf("invalid_argument", nil, "the level %s is below the minimum %s; change one of them", p.Level, p.MinLevel)
	}
	if p.Level == sandbox.LevelSeatbelt {
		return errorf("confinement_unavailable", nil, "Seatbelt exists on macOS only; use auto, namespaces or landlock")
	}
	if !slices.Contains([]sandbox.Network{sandbox.NetworkNone, sandbox.NetworkLoopback, sandbox.NetworkAllow, sandbox.NetworkHost}, p.Network) {
		return errorf("invalid_argument", nil, "the network mode %q does not exist; use none, loopback, allow or host", string(p.Network))
	}
	l := p.Limits
	if l.Procs < 0 || l.FileSize < 0 || l.OpenFiles < 0 || l.Tmp < 0 || l.Shm < 0 || l.Memory < 0 || l.CPU < 0 {
		return errorf("invalid_argument", nil, "a limit is negative; use 0 for the default")
	}
	if !(l.CPU <= 1<<16) {
		return errorf("invalid_argument", nil, "the CPU limit is not a number of processors; give one such as 1.5")
	}
	p.Limits = l.WithDefaults()
	for _, list := range []struct {
		what  string
		paths []string
	}{{"workspace", []string{p.Workspace}}, {"read grant", p.Read}, {"write grant", p.Write}, {"state directory", p.StateDirs}} {
		for _, v := range list.paths {
			if !filepath.IsAbs(v) || strings.IndexByte(v, 0) >= 0 {
				return errorf("invalid_argument", nil, "a %s is not an absolute path; give the whole path", list.what)
			}
		}
	}
	if _, err := denyList(p); err != nil {
		return err
	}
	p.Workspace = filepath.Clean(p.Workspace)
	if p.Home != "" {
		p.Home = filepath.Clean(p.Home)
	}
	// Every parent of the workspace is created inside, so these would hide
	// what the sandbox itself needs.
	for _, bad := range []string{"/", "/usr", "/etc", "/dev", "/proc", "/sys", "/run", "/tmp", "/var", "/home", "/bin", "/lib"} {
		if p.Workspace == bad {
			return errorf("invalid_argument", nil, "the workspace is a system directory; use a directory of your own")
		}
	}
	if within(p.Workspace, "/proc", "/sys", "/dev", "/etc") {
		return errorf("invalid_argument", nil, "the workspace lies in a system directory; use a directory of your own")
	}
	for i, rel := range p.Protect {
		if !filepath.IsLocal(rel) || rel == "." {
			return errorf("invalid_argument", nil, "a protected path leaves the workspace; give it relative to the workspace")
		}
		if i == 0 {
			p.Protect = slices.Clone(p.Protect)
		}
		p.Protect[i] = filepath.Clean(rel)
	}
	return nil
}

// startLevel starts the level of pl, which host was planned for, and asks plan
// again with what init answered.
func (w *WarmInit) startLevel(ctx context.Context, p *sandbox.Policy, id identity, pl Plan, host Capabilities) (*Sandbox, error) {
	level := pl.Level
	if p.Stage != "" && level != sandbox.LevelNamespaces && level != sandbox.LevelNamespacesNoProc {
		return nil, stageRefused(&unavailable{step: "start the level namespaces", err: errorf("confinement_unavailable", nil, "the level would be %s, which mounts nothing; use a host with namespaces", level)})
	}
	if err := ctx.Err(); err != nil {
		return nil, errorf("cancelled", err, "the call was cancelled before the sandbox started")
	}
	if id.owner.needed() && level != sandbox.LevelNamespaces && level != sandbox.LevelNamespacesNoProc {
		return nil, refuseRootAt(level)
	}
	key := newBootKey(p, id, level)
	var base *base
	if key.namespaces {
		base = planBase(p, id)
	}
	w.begin()
	started := false
	defer func() { w.end(p, id, key, base, started) }()
	var b *initProcess
	var bootErr error
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		if b = w.take(key, base); b == nil {
			b, bootErr = boot(key, base, w.forker(key), p.Log)
		}
	}()
	l, err := newLevelLayout(p, id, level, base)
	<-waiting
	if err == nil {
		defer l.close()
		if err = bootErr; err != nil {
			l.undo()
		}
	}
	if err != nil {
		if b != nil {
			b.discard(p.Log)
		}
		return nil, err
	}
	s, err := launch(ctx, p, l, b, pl, host)
	if err != nil {
		return nil, err
	}
	started = true
	return s, nil
}

// launch sends init its configuration and waits until it is ready. It takes b
// over, and removes what l made when it fails.
func launch(ctx context.Context, p *sandbox.Policy, l *layout, b *initProcess, pl Plan, host Capabilities) (*Sandbox, error) {
	go logPanics(p.Log, b.stderr)
	cg, sock := b.cgroup, b.sock
	s := &Sandbox{
		log: p.Log, uid: l.id.uid, gid: l.id.gid, pid: b.pid, sock: sock, control: b.control,
		procs: map[uint32]*Process{}, pending: map[uint32]chan answer{}, held: map[io.Closer]bool{},
		done: make(chan struct{}), cgroup: cg, limits: p.Limits, merged: -1,
		writable: l.cfg.Writable, readable: l.cfg.ReadOnly, grants: slices.Concat([]string{p.Workspace}, p.Read, p.Write),
		private: []string{"/tmp", "/var/tmp", "/run"}, readGrants: p.Read,
		cleanups: []func(){l.undo, func() {
			if err := cg.Remove(); err != nil {
				p.Log.Warn("control group not removed", "error", err)
			}
		}},
	}
	s.hostUID, s.hostGID = s.uid, s.gid
	if m := l.id.owner; m.needed() {
		s.hostUID, s.hostGID = m.uid.disk, m.gid.disk
	}
	if l.cache != "" {
		s.grants = append(s.grants, l.cache) // on the host's disk
	}
	if l.cfg.Home != "" {
		s.private = append(s.private, l.cfg.Home)
	}
	in := b.in
	// Whatever ends the wait early kills init, which ends the read below.
	stop := context.AfterFunc(ctx, s.kill)
	timeout := time.AfterFunc(startTimeout, s.kill)
	defer timeout.Stop()
	gaps, err := s.handshake(in, l, func() {
		s.report = l.report(pl, host.answered(p.Level, nil, cg))
		s.env = l.environ()
	})
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.kill()
		s.reapInit()
		in.close()
		sock.Close()
		s.closeMerged()
		l.undo()
		cg.Remove()
		close(s.done)
		if ctx.Err() != nil {
			return nil, errorf("cancelled", ctx.Err(), "the call was cancelled while the sandbox started")
		}
		return nil, err
	}
	if l.cfg.Namespaces {
		s.gate = gateKind(p.Network, gaps)
	}
	_, four := gapsByName(gaps)[gapGate6]
	s.gate6 = !four
	s.seesConns = p.Network != sandbox.NetworkHost && l.cfg.Namespaces && !supervisorMissing(gaps)
	if len(gaps) > 0 {
		host = host.answered(p.Level, gaps, cg)
		if pl, _, err = plan(*p, host); err == nil {
			s.report = l.report(pl, host, gaps...)
		}
	}
	s.cleanups = append(s.cleanups, s.closeMerged)
	if s.views, l.views = l.views, nil; s.views != nil {
		s.cleanups = append(s.cleanups, s.closeViews)
	}
	go s.read(in)
	if err != nil { // what init could not do makes it weaker than was asked for
		s.Close()
		return nil, err
	}
	return s, nil
}

// handshake configures init; meanwhile runs while init works.
func (s *Sandbox) handshake(in *frameReader, l *layout, meanwhile func()) ([]string, error) {
	err := sendTrees(s.send, l.trees)
	if err == nil {
		err = s.send(l.cfg.encode())
	}
	if err == nil {
		meanwhile()
	}
	// What init said of its base comes first, and is the reason when it has gone.
	f, ferr := in.next()
	if ferr == nil && f.op == evBase {
		f, ferr = in.next()
	}
	if err == nil {
		err = ferr
	}
	if ferr != nil {
		return nil, &unavailable{step: "start init", err: err}
	}
	defer f.close()
	if f.op != evReady {
		return nil, failure(&f, s.log)
	}
	if len(f.fds) > 0 {
		s.merged, f.fds = f.fds[0], f.fds[1:]
	}
	gaps := f.strs()
	return gaps, f.done()
}

// failure is what init says of a step that failed.
func failure(f *frame, log *slog.Logger) error {
	if f.op != evFailed {
		return &unavailable{step: "start init", err: errWire}
	}
	step, errno, text := f.str(), unix.Errno(f.u32()), f.str()
	log.Debug("init failed", "step", step, "error", text)
	if errno == 0 {
		return &unavailable{step: step, err: errors.New(text)}
	}
	return &unavailable{step: step + " (" + text + ")", err: errno}
}

package confine

import (
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// CheckLimits refuses limits that sessions at level would go without, by making
// and removing a control group that has them. The error is that of Start:
// confinement_unavailable.
func CheckLimits(l sandbox.Limits, level sandbox.Level) error {
	// Whether commands are uid 0 is known of each session, not here.
	l.Procs = 0
	if l.BestEffort || !asksCgroup(l, -1) {
		return nil
	}
	if level == sandbox.LevelNone {
		return unenforced(l, -1, (*cgroup)(nil).Has, []string{"--confine none has no control groups"})
	}
	g, missing, err := newCgroup("probe"+strconv.FormatInt(probeCount.Add(1), 10), l)
	if err != nil {
		return unenforced(l, -1, g.Has, []string{err.Error()})
	}
	refused := unenforced(l, -1, g.Has, lostLimits(missing))
	if err := g.Remove(); err != nil && refused == nil {
		return errorf("confinement_unavailable", err, "a control group for the limits was made and cannot be removed; %s", remedyLimits)
	}
	return refused
}

// lostLimits are the reasons among what newCgroup could not have, each once,
// without the share of the processors, which nobody asks for.
func lostLimits(missing []string) []string {
	var why []string
	for _, m := range missing {
		sentence, reason, _ := strings.Cut(m, ": ")
		if sentence != shareSentence && !slices.Contains(why, reason) {
			why = append(why, reason)
		}
	}
	return why
}

// enforced refuses a sandbox that has started without a limit that was asked for.
func (s *Sandbox) enforced(asked sandbox.Limits, level sandbox.Level) error {
	if err := unenforced(asked, s.uid, s.cgroup.Has, nil); err == nil {
		return nil
	}
	if err := CheckLimits(asked, level); err != nil {
		return err // with the reason
	}
	return unenforced(asked, s.uid, s.cgroup.Has, []string{"commands run as uid 0, which RLIMIT_NPROC does not bind, or the session could not enter its control group"})
}

const (
	rlimitSigpending = 11 // RLIMIT_SIGPENDING of asm-generic/resource.h
	// signalShare is the part of the user's queued signals one session can have;
	// maxSigpending stands for no limit.
	signalShare   = 4
	maxSigpending = 1 << 20
)

func (s *initState) setLimits() error {
	// Once limited, init may not be able to make threads.
	s.kept.Wait()
	syscall.Umask(0o022)
	l := s.cfg.Limits
	type limit struct {
		resource int
		value    uint64
	}
	limits := []limit{
		{unix.RLIMIT_CORE, 0},
		// A real-time command would hold up the host, and shed its mark (tree_linux.go).
		{unix.RLIMIT_RTPRIO, 0},
		{unix.RLIMIT_FSIZE, uint64(l.FileSize)},
		{unix.RLIMIT_NOFILE, uint64(l.OpenFiles)},
	}
	procs := l.Procs + threadCount()
	if !s.cfg.Namespaces {
		// The count is the host user's then, server included, so what is there
		// already comes on top.
		procs = l.Procs + userTasks(s.cfg.UID)
	}
	if !s.cfg.Unconfined {
		limits = append(limits, limit{unix.RLIMIT_NPROC, uint64(procs)})
		// The kernel counts signals that wait, and timers, for the user on the host as
		// well: with all of them used up, no other program of that user gets one.
		var pending unix.Rlimit
		if err := unix.Getrlimit(rlimitSigpending, &pending); err != nil {
			return err
		}
		limits = append(limits, limit{rlimitSigpending, max(min(pending.Cur, maxSigpending)/signalShare, 1)})
	}
	for _, v := range limits {
		var old unix.Rlimit
		if err := unix.Getrlimit(v.resource, &old); err != nil {
			return err
		}
		v.value = min(v.value, old.Max)
		if err := unix.Setrlimit(v.resource, &unix.Rlimit{Cur: v.value, Max: v.value}); err != nil {
			return err
		}
	}
	return nil
}

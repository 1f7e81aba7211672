package confine

import (
	"os"
	"path"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

func (s *initState) enterLandlock() error {
	if !s.cfg.Landlock {
		return nil
	}
	d, abi := s.landlockDomain(), landlockABI()
	if err := d.restrict(abi); err != nil {
		return err
	}
	// Asked of the kernel as well: on an answer that is wrong, killDomain would
	// reach all of the user's processes. The server is outside the domain.
	s.scoped = abi >= 6 && d.ScopeSignal && unix.Kill(os.Getppid(), 0) == unix.EPERM
	return nil
}

// deviceNodes are those commands may write to, besides their terminals.
var deviceNodes = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}

// landlockDomain opens the sandbox's root to reading and running, and only what
// belongs to the session to writing. It repeats what the mounts say: each holds
// when the other fails.
func (s *initState) landlockDomain() landlockDomain {
	d := landlockDomain{ScopeSignal: true, ScopeAbstract: true}
	if s.cfg.Namespaces {
		d.Rules = append(d.Rules, landlockRule{Path: "/", Access: laRead})
	}
	if !s.cfg.Namespaces {
		// Other processes' secrets there are behind the ptrace check, which the
		// domain fails.
		d.Rules = append(d.Rules, landlockRule{Path: "/proc", Access: laReadNoExec})
		d.DenyTCP = s.cfg.Network != sandbox.NetworkHost
	}
	for _, p := range s.cfg.ReadOnly {
		d.Rules = append(d.Rules, landlockRule{Path: p, Access: laRead, Optional: true})
	}
	for _, p := range s.cfg.Writable {
		d.Rules = append(d.Rules, landlockRule{Path: p, Access: laWrite})
	}
	for _, p := range s.cfg.OtherGit {
		// Of the directory it lies in, as the overlay is another one when it has
		// been renewed; what else lies there is mounted read-only.
		d.Rules = append(d.Rules, landlockRule{Path: path.Dir(p), Access: laWrite})
	}
	for _, p := range deviceNodes {
		d.Rules = append(d.Rules, landlockRule{Path: p, Access: laDevice, Optional: true})
	}
	terminals := []string{"/dev/tty"}
	if s.cfg.Namespaces {
		// Only a devpts of our own: the host's has the user's terminals, which
		// have the same owner as our commands.
		terminals = append(terminals, "/dev/pts")
	}
	for _, p := range terminals {
		d.Rules = append(d.Rules, landlockRule{Path: p, Access: laDevice, Optional: true})
	}
	return d
}

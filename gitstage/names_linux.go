package gitstage

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// listing is what a directory held, with what changes when a name in it does.
type listing struct {
	names        []string
	mtime, ctime int64
}

// coarseClock is above the steps in which file systems count time, of which the
// coarsest are two seconds. A directory that changed less than that ago can change again
// without another time, so its names are not kept. Tests set it.
var coarseClock = 3 * time.Second

// inStage are the names in the stage, sorted; the caller does not change them. They are
// made by init when it stages a git directory, and kept here: most calls find none. Needs
// mu.
func (p *Publisher) inStage() ([]string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(p.stage.fd, &st); err != nil {
		return nil, err
	}
	now := listing{mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano()}
	if l := p.listed; l != nil && l.mtime == now.mtime && l.ctime == now.ctime {
		return l.names, nil
	}
	p.listed = nil
	before := time.Now().Add(-coarseClock).UnixNano()
	names, err := p.stage.names(".")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	if now.names = names; max(now.mtime, now.ctime) < before {
		p.listed = &now
	}
	return names, nil
}

// asOwner runs f, which works on what is in the stage, with the owner's rights; where
// nothing is, or after Close, it has nothing to do.
func (p *Publisher) asOwner(f func() error) error {
	if p.closed {
		return nil
	}
	if names, err := p.inStage(); err == nil && len(names) == 0 {
		return nil
	}
	return asOwner(p.o.UID, p.o.GID, f)
}

package workspace

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A program may write to a file in the moment in which a new one takes its name:
// it has opened the old file, and what it writes there would be gone. So the old
// file is kept until nobody has it open for writing, and what was added at its
// end is added to the new one.

// patienceForWriter bounds the wait for programs that have the old file open. A
// shell that appends a line is done in microseconds, and on a busy host in some tens of
// milliseconds; a program that keeps a file open all its life goes on with the old one,
// as with any editor.
const patienceForWriter = 100 * time.Millisecond

// clockTick is how far apart writes are whose times surely differ; file systems
// take theirs from a clock that ticks every few milliseconds.
const clockTick = 100 * time.Millisecond

// errRewritten says that the old file was changed other than at its end.
var errRewritten = errors.New("file was rewritten during the call")

// displaced is a file whose name a new one has taken.
type displaced struct {
	dir        int
	tmp, name  string
	was        unix.Stat_t
	old, fresh *os.File
	carried    int64 // bytes of old that are known to the new file
	size       int64 // of the new file as it was written
}

// displace exchanges the new file tmp with name, which must still be the file was.
// Errors of renameSwap mean that nothing was exchanged; errRewritten that another
// file had the name.
func displace(dir int, tmp, name string, was *unix.Stat_t) (*displaced, error) {
	d := &displaced{dir: dir, tmp: tmp, name: name, was: *was, carried: was.Size}
	if kindOf(was) == KindFile {
		old, err := openRegularAt(dir, name, name)
		if err == nil {
			var st unix.Stat_t
			if unix.Fstat(int(old.Fd()), &st) != nil || idOf(&st) != idOf(was) {
				old.Close()
				return nil, errRewritten
			}
			d.old = old
		}
		if d.fresh, err = openForWriteAt(dir, tmp, name, unix.O_APPEND); err == nil {
			if st, err := d.fresh.Stat(); err == nil {
				d.size = st.Size()
			}
		}
	}
	if err := renameSwap(dir, tmp, dir, name); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// leftBehind is the file that a patch has moved to another place, under the name old until
// it is removed. Nil where nothing can be added to it.
func leftBehind(dir int, old string, was *unix.Stat_t, to *resolved) *displaced {
	if kindOf(was) != KindFile {
		return nil
	}
	file, err := openRegularAt(dir, old, old)
	if err != nil {
		return nil
	}
	fresh, _ := openForWrite(to, unix.O_APPEND) // nil: an addition is a conflict
	return &displaced{dir: dir, tmp: old, was: *was, carried: was.Size, old: file, fresh: fresh}
}

// settle waits until nobody writes to the old file and takes over what was added
// to it. original gives its content as it was read, to tell an addition from a
// file that was written over; nil where any growth is an addition.
func (d *displaced) settle(ctx context.Context, original func() ([]byte, error)) error {
	if st, err := statAt(d.dir, d.tmp); err != nil || idOf(st) != idOf(&d.was) {
		return errRewritten
	}
	if d.old == nil {
		return nil
	}
	until := time.Now().Add(patienceForWriter)
	for pause := 100 * time.Microsecond; ; pause *= 2 {
		alone := !beingWritten(int(d.old.Fd()))
		if err := d.carry(original); err != nil {
			return err
		}
		if alone || ctx.Err() != nil || time.Now().After(until) {
			return nil
		}
		time.Sleep(pause)
	}
}

// carry adds to the new file what was added to the old one.
func (d *displaced) carry(original func() ([]byte, error)) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.old.Fd()), &st); err != nil {
		return err
	}
	_, now := statTimes(&st)
	_, then := statTimes(&d.was)
	switch {
	case st.Size < d.carried, st.Size == d.was.Size && now != then:
		return errRewritten
	case st.Size == d.carried && (d.carried > d.was.Size || original == nil || time.Since(time.Unix(now.Unix())) > clockTick):
		return nil
	case st.Size == d.carried:
		// Written so lately that the times may not tell a second write from the first.
		return d.compare(original)
	case d.fresh == nil:
		return errRewritten
	}
	if d.carried == d.was.Size && original != nil {
		if err := d.compare(original); err != nil {
			return err
		}
	}
	n, err := io.Copy(d.fresh, io.NewSectionReader(d.old, d.carried, st.Size-d.carried))
	d.carried += n
	d.size += n
	if err != nil {
		return unwrapPath(err)
	}
	return unwrapPath(d.fresh.Sync())
}

// compare says whether the old file still begins with what was read of it.
func (d *displaced) compare(original func() ([]byte, error)) error {
	was, err := original()
	if err != nil {
		return err
	}
	head := make([]byte, len(was))
	if _, err := d.old.ReadAt(head, 0); err != nil && err != io.EOF || !bytes.Equal(head, was) {
		return errRewritten
	}
	return nil
}

// back gives the name to the old file again, with what was meanwhile added to the
// new one.
func (d *displaced) back() {
	if renameSwap(d.dir, d.tmp, d.dir, d.name) != nil || d.fresh == nil || d.old == nil {
		return
	}
	st, err := d.fresh.Stat()
	if err != nil || st.Size() <= d.size {
		return
	}
	fresh, err := openRegularAt(d.dir, d.tmp, d.name)
	if err != nil {
		return
	}
	defer fresh.Close()
	old, err := openForWriteAt(d.dir, d.name, d.name, unix.O_APPEND)
	if err != nil {
		return
	}
	defer old.Close()
	io.Copy(old, io.NewSectionReader(fresh, d.size, st.Size()-d.size))
}

func (d *displaced) close() {
	for _, f := range []*os.File{d.old, d.fresh} {
		if f != nil {
			f.Close()
		}
	}
}

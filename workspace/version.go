package workspace

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A version names the content of a file in a few characters, for a caller that
// writes only if the file is still what it has read.

const (
	// versionDigits are of a sum in hexadecimal. They need not stand against an
	// attacker, who could as well write the file.
	versionDigits = 12
	// maxHashed is the largest file whose version comes from its content. That of a
	// larger one comes from inode, size and time, so it also changes when the same
	// content is written again.
	maxHashed = 8 << 20
)

// versionOfContent is the version of a file with the content b, of at most
// maxHashed bytes.
func versionOfContent(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])[:versionDigits]
}

// versionOfStat is the version of a file of more than maxHashed bytes.
func versionOfStat(st *unix.Stat_t) string {
	_, mtime := statTimes(st)
	return versionOfContent(fmt.Appendf(nil, "%d %d %d %d", st.Dev, st.Ino, st.Size, mtime.Nano()))
}

// versionOf is the version of an open file.
func versionOf(ctx context.Context, file *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return "", err
	}
	if st.Size > maxHashed {
		return versionOfStat(&st), nil
	}
	sum := sha256.New()
	if _, err := copyContext(ctx, sum, io.NewSectionReader(file, 0, maxHashed), -1); ctx.Err() != nil {
		return "", err
	}
	// What cannot be read fails where it is read.
	return hex.EncodeToString(sum.Sum(nil))[:versionDigits], nil
}

// expected is a file that was found to be the version a caller goes by.
type expected struct {
	st       *unix.Stat_t
	original func() ([]byte, error) // for staged.replace; nil when it is too much to hold
}

// expectVersion refuses to go on unless the file at p is the version want.
// Codes: conflict.
func expectVersion(ctx context.Context, p *resolved, want string) (*expected, error) {
	file, err := openRegular(p)
	if err == unix.ENOENT {
		return nil, fail(codeConflict, "%s does not exist, so it is not version %s; leave out if_unchanged to create it", quote(p.given), quote(want))
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	e := &expected{st: new(unix.Stat_t)}
	if err := unix.Fstat(int(file.Fd()), e.st); err != nil {
		return nil, err
	}
	if e.st.Size > maxHashed {
		return e, sameVersion(p.given, versionOfStat(e.st), want)
	}
	var b bytes.Buffer
	b.Grow(int(e.st.Size))
	if _, err := copyContext(ctx, &b, file, maxHashed); err != nil {
		return nil, unwrapPath(err)
	}
	e.original = func() ([]byte, error) { return b.Bytes(), nil }
	return e, sameVersion(p.given, versionOfContent(b.Bytes()), want)
}

func sameVersion(given, now, want string) error {
	if now == want {
		return nil
	}
	return fail(codeConflict, "%s has changed: it is version %s now and not %s; read it again", quote(given), now, quote(want))
}

// version is that of the file d was loaded from.
func (d *document) version() (string, error) {
	if d.st.Size > maxHashed {
		return versionOfStat(&d.st), nil
	}
	b, err := d.original()
	return versionOfContent(b), err
}

// versionAfter is the version of a file with new content; "" for a large one,
// whose version only a read tells.
func versionAfter(content []byte) string {
	if len(content) > maxHashed {
		return ""
	}
	return versionOfContent(content)
}

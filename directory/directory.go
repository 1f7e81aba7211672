// Package directory keeps small values under names so that several servers can
// agree on them: a value is replaced only by who has seen the one before.
//
// Two engines fulfil [Directory]: [NewLocal], a directory of this machine or of a
// shared file system with flock(2), and snapshot/s3store, a bucket whose store
// honours conditional writes. Both pass [mcp-sandbox/directory/directorytest];
// [Check] asks a real one whether it does.
package directory

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"
)

// Directory holds values of 1 to MaxValue bytes. All methods are safe for
// concurrent use, in one process and in several. What one method has returned is
// seen by every later call of any other server.
type Directory interface {
	// Get gives a value and its version; a missing one is fs.ErrNotExist.
	Get(ctx context.Context, key string) (value []byte, version string, err error)
	// PutIf replaces the value that has this version, "" for none, and gives the new
	// version. Where another has it, or none when one was named, nothing is written
	// and the error is ErrConflict. After any other error the value may be either one.
	// Values that differ in time must differ in content: equal ones may have one
	// version.
	PutIf(ctx context.Context, key string, value []byte, version string) (next string, err error)
	// List gives the entries whose key starts with prefix, sorted by key.
	List(ctx context.Context, prefix string) ([]Entry, error)
	// Delete removes a value whatever its version; a missing one is not an error.
	Delete(ctx context.Context, key string) error
}

// Entry is one line of a listing.
type Entry struct {
	Key      string
	Modified time.Time // by the clock of where it is stored
}

// MaxValue bounds a value, in bytes.
const MaxValue = 1 << 20

// ErrConflict says that a value is not the one that was to be replaced.
var ErrConflict = errors.New("the entry was changed by another server")

// ValidKey tells whether key is one that a [Directory] may be given: 1 to 256 bytes
// of elements of letters, digits, "-", "_" and ".", none starting with a dot.
func ValidKey(key string) bool {
	if len(key) > 256 {
		return false
	}
	for _, part := range strings.Split(key, "/") {
		if part == "" || part[0] == '.' || strings.ContainsFunc(part, func(c rune) bool {
			return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.')
		}) {
			return false
		}
	}
	return true
}

// racers write at the same time in Check.
const racers = 8

// ErrUnfit says that a store was reached and does not do what servers that share it
// need, see [Check].
var ErrUnfit = errors.New("the store does not honour what servers need")

// unfit is an ErrUnfit with what does not hold.
type unfit struct{ error }

func (unfit) Is(target error) bool { return target == ErrUnfit }

// judge is for a step of Check that had to end otherwise than with err: what was
// answered tells of the store, what was not tells nothing.
func judge(err error, what string) error {
	told := errors.New(what)
	if err != nil {
		told = fmt.Errorf("%s (%w)", what, err)
	}
	if err == nil || errors.Is(err, ErrConflict) || errors.Is(err, fs.ErrNotExist) {
		return unfit{told}
	}
	return told
}

// cleanTime bounds the removal of what Check tried with.
const cleanTime = 5 * time.Second

// Check tries on a key of its own whether d honours conditional writes: object
// stores exist that take the headers and ignore them, and two servers would then run
// one session. The error says what does not hold, and is ErrUnfit where d has shown
// that it does not; any other is of a store that did not answer.
func Check(ctx context.Context, d Directory) (err error) {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	key := "check/" + hex.EncodeToString(b[:])
	defer func() {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
		defer cancel()
		if left := d.Delete(within, key); left != nil && err == nil {
			err = judge(left, "the entry could not be deleted")
		}
	}()

	first, err := d.PutIf(ctx, key, []byte("1"), "")
	if err != nil {
		return judge(err, "a new entry could not be written")
	}
	if _, err := d.PutIf(ctx, key, []byte("2"), ""); !errors.Is(err, ErrConflict) {
		return judge(err, "a write on the condition that there is no entry (If-None-Match: *) did not fail for the one that there is")
	}
	second, err := d.PutIf(ctx, key, []byte("3"), first)
	if err != nil {
		return judge(err, "a write on the condition that the entry is unchanged (If-Match) failed")
	}
	if _, err := d.PutIf(ctx, key, []byte("4"), first); !errors.Is(err, ErrConflict) {
		return judge(err, "a write on the condition that the entry is unchanged (If-Match) did not fail for a changed one")
	}
	if v, version, err := d.Get(ctx, key); err != nil || string(v) != "3" || version != second {
		return judge(err, fmt.Sprintf("what was written last is not what is read, %q", v))
	}
	if err := race(ctx, d, key, second); err != nil {
		return err
	}
	if list, err := d.List(ctx, "check/"); err != nil || !strings.Contains(fmt.Sprint(list), key) {
		return judge(err, "the entry is not listed")
	}
	if err := d.Delete(ctx, key); err != nil {
		return judge(err, "the entry could not be deleted")
	}
	if _, _, err := d.Get(ctx, key); !errors.Is(err, fs.ErrNotExist) {
		return judge(err, "a deleted entry is not missing")
	}
	if _, err := d.PutIf(ctx, key, []byte("5"), second); !errors.Is(err, ErrConflict) {
		return judge(err, "a write on the condition that the entry is unchanged (If-Match) did not fail for a deleted one")
	}
	return nil
}

// race has several writers replace one version: exactly one may.
func race(ctx context.Context, d Directory, key, version string) error {
	errs := make([]error, racers)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = d.PutIf(ctx, key, fmt.Appendf(nil, "race %d", i), version) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, ErrConflict):
			return judge(err, "one of several writes at the same time failed")
		}
	}
	if won != 1 {
		return unfit{fmt.Errorf("%d of %d writes of one version at the same time were taken, instead of one", won, racers)}
	}
	return nil
}

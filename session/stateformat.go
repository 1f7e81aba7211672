package session

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stateVersion is the version of the state format below.
const stateVersion = 1

// savedState is what a session needs to come back in another process. It holds
// no environment value and no manifest, only the manifest's keyed digest, and it
// decides about nothing that is deleted: that does the session's record, which
// never leaves the state directory.
type savedState struct {
	Version   int       `json:"version"`
	Type      string    `json:"type"` // stateType
	Name      string    `json:"name,omitempty"`
	SessionID string    `json:"session_id"`
	Created   time.Time `json:"created"`
	Saved     time.Time `json:"saved"`
	Workspace string    `json:"workspace"`
	Owned     bool      `json:"owned"`
	Manifest  string    `json:"manifest_digest,omitempty"`
	Snapshot  string    `json:"snapshot_id,omitempty"`
	Ports     []int     `json:"exposed_ports,omitempty"`
	Ephemeral []string  `json:"ephemeral,omitempty"`
}

const stateType = "mcp-sandbox/session"

// envelope carries the state as the text that was signed: encoding it again
// could change a byte.
type envelope struct {
	Version int    `json:"version"`
	State   string `json:"state"`
	MAC     string `json:"hmac_sha256"`
}

// maxState bounds a state, in bytes.
const maxState = 1 << 20

func stateMAC(key []byte, text string) string {
	h := hmac.New(sha256.New, key)
	// The prefix keeps a signature over something else from being one of a state.
	h.Write([]byte("mcp-sandbox state 1\n"))
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}

func seal(key []byte, st savedState) ([]byte, error) {
	st.Version, st.Type = stateVersion, stateType
	text, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(envelope{Version: stateVersion, State: string(text), MAC: stateMAC(key, string(text))})
	return append(b, '\n'), err
}

// unseal takes only what this server's key has signed. Its errors hold nothing
// of the input. Code: invalid_argument.
func unseal(key, b []byte) (savedState, error) {
	var st savedState
	refuse := func(why string) (savedState, error) {
		return savedState{}, errorf("invalid_argument", nil, "the saved session %s, it cannot be resumed: delete it and start a new one", why)
	}
	var e envelope
	if len(b) > maxState || strictJSON(b, &e) != nil {
		return refuse("is damaged")
	}
	if e.Version != stateVersion {
		return refuse(fmt.Sprintf("has a format this server does not know (it knows %d)", stateVersion))
	}
	// Compared before it is parsed, so that nothing unauthenticated is parsed.
	if !hmac.Equal([]byte(e.MAC), []byte(stateMAC(key, e.State))) {
		return refuse("was changed or comes from another server")
	}
	if strictJSON([]byte(e.State), &st) != nil || st.Version != stateVersion || st.Type != stateType || !sessionID().MatchString(st.SessionID) {
		return refuse("is not one of this version")
	}
	return st, nil
}

var sessionID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{32}$`) })

func strictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more after the end")
	}
	return nil
}

// key is the server's own secret, made on first use.
func (s *state) key() ([]byte, error) { return s.random("key") }

// instance distinguishes this state directory from every other, even one with the
// same key.
func (s *state) instance() ([]byte, error) { return s.random("instance") }

// random is 32 random bytes in a file of mode 0600 in the state directory, made on
// first use. Two servers that start at the same time get the same.
func (s *state) random(file string) ([]byte, error) {
	name := filepath.Join(s.dir, file)
	for range 2 {
		b, err := readPrivate(name, 64)
		if err == nil && len(b) == 32 {
			return b, nil
		}
		if err == nil {
			return nil, errorf("internal", nil, "the file %s of the state directory is damaged; delete it, sessions and ids made before are unknown then", file)
		}
		if !os.IsNotExist(err) {
			return nil, errorf("permission_denied", err, "the file %s of the state directory cannot be read; check the directory's permissions", file)
		}
		fresh := make([]byte, 32)
		_, _ = rand.Read(fresh)
		if err := writeOnce(name, fresh); err != nil && !os.IsExist(err) {
			return nil, errorf("permission_denied", err, "the file %s of the state directory cannot be written; check the directory's permissions", file)
		}
	}
	return nil, errorf("internal", nil, "the file %s of the state directory comes and goes; check the directory", file)
}

// readPrivate reads a file that only this user can have written.
func readPrivate(name string, most int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s is open to others", name)
	}
	if uid, _, err := ownerOf(f); err != nil || uid != os.Geteuid() {
		return nil, fmt.Errorf("%s belongs to another user", name)
	}
	return io.ReadAll(io.LimitReader(f, most+1))
}

// writeOnce makes a file that must not exist, whole or not at all.
func writeOnce(name string, b []byte) error {
	tmp := name + "." + randomHex(8)
	if err := writeSynced(tmp, b); err != nil {
		return err
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

// writeOver replaces a file, whole or not at all.
func writeOver(name string, b []byte) error {
	tmp := name + "." + randomHex(8)
	if err := writeSynced(tmp, b); err != nil {
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return syncDir(filepath.Dir(name))
}

func writeSynced(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

var sessionName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`) })

func checkName(name string) error {
	if !sessionName().MatchString(name) {
		return errorf("invalid_argument", nil, "the session name %q is not one: use up to 64 letters, digits, - and _, starting with a letter or digit", name)
	}
	return nil
}

func (s *state) savedPath(name string) string { return filepath.Join(s.dir, "saved", name+".json") }

func (s *state) save(key []byte, st savedState) error {
	b, err := seal(key, st)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "saved"), 0o700); err != nil {
		return err
	}
	return writeOver(s.savedPath(st.Name), b)
}

// removeSaved removes a named session's state, and what a server that was killed
// in the middle of save has left of it. The caller holds the name's lock.
func (s *state) removeSaved(name string) error {
	halves, _ := filepath.Glob(s.savedPath(name) + ".*")
	errs := []error{ignoreMissing(os.Remove(s.savedPath(name)))}
	for _, h := range halves {
		errs = append(errs, ignoreMissing(os.Remove(h)))
	}
	return errors.Join(errs...)
}

// load reads a named session's state; os.ErrNotExist when there is none.
func (s *state) load(name string) (savedState, error) {
	b, err := readPrivate(s.savedPath(name), maxState)
	if err != nil {
		if os.IsNotExist(err) {
			return savedState{}, err
		}
		return savedState{}, errorf("permission_denied", err, "the saved session %q cannot be read, check the state directory", name)
	}
	key, err := s.key()
	if err != nil {
		return savedState{}, err
	}
	st, err := unseal(key, b)
	if err != nil {
		return savedState{}, err
	}
	// A file put under another name would bring back another session.
	if st.Name != name {
		return savedState{}, errorf("invalid_argument", nil, "the saved session %q belongs to another name, it cannot be resumed: delete it and start a new one", name)
	}
	return st, nil
}

// lockName keeps a second server from using the same named session. Who deletes
// the session removes the file while it holds the lock, so a lock counts only if
// the file still has its name.
func (s *state) lockName(name string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Join(s.dir, "saved"), 0o700); err != nil {
		return nil, errorf("internal", err, "the state directory cannot be written, check --state-dir")
	}
	path := s.lockPath(name)
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, errorf("internal", err, "the state directory cannot be written, check --state-dir")
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, errorf("already_exists", errors.Join(ErrElsewhere, err), "the session %q is in use by another server, end that one or choose another name", name)
		}
		held, err := f.Stat()
		if err == nil {
			var now os.FileInfo
			if now, err = os.Lstat(path); err == nil && os.SameFile(held, now) {
				return f, nil
			}
		}
		f.Close()
		if err != nil && !os.IsNotExist(err) {
			return nil, errorf("internal", err, "the state directory cannot be read, check --state-dir")
		}
	}
}

func (s *state) lockPath(name string) string { return filepath.Join(s.dir, "saved", name+".lock") }

// savedNames lists the named sessions, sorted.
func (s *state) savedNames() []string {
	files, _ := filepath.Glob(filepath.Join(s.dir, "saved", "*.json"))
	var out []string
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		if sessionName().MatchString(name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// ledger is the ephemeral paths that sessions made in a caller's directory, so that
// the next one may replace those and nothing else.
func (s *state) ledgerPath(root string) string {
	sum := sha256.Sum256([]byte(root))
	return filepath.Join(s.dir, "ephemeral", hex.EncodeToString(sum[:12])+".json")
}

func (s *state) ledger(root string) []string {
	b, err := readPrivate(s.ledgerPath(root), maxState)
	var paths []string
	if err != nil || json.Unmarshal(b, &paths) != nil {
		return nil
	}
	return paths
}

func (s *state) setLedger(root string, paths []string) error {
	if err := os.MkdirAll(filepath.Join(s.dir, "ephemeral"), 0o700); err != nil {
		return err
	}
	b, err := json.Marshal(paths)
	if err != nil {
		return err
	}
	return writeOver(s.ledgerPath(root), b)
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand, Go 1.24)
	return hex.EncodeToString(b)
}

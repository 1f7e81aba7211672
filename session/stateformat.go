package session

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/directory"
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
	Until     time.Time `json:"until,omitzero"` // when it is deleted whatever it does
	Workspace string    `json:"workspace"`
	Owned     bool      `json:"owned"`
	Manifest  string    `json:"manifest_digest,omitempty"`
	Snapshot  string    `json:"snapshot_id,omitempty"`
	Ports     []int     `json:"exposed_ports,omitempty"`
	Ephemeral []string  `json:"ephemeral,omitempty"`

	// With a lease alone, see claim: which server holds the session, "" for none; how
	// often it was taken; and the last who took it.
	Holder string `json:"holder,omitempty"`
	Epoch  int64  `json:"epoch,omitempty"`
	Claim  string `json:"claim,omitempty"`
	// Clean: it was given up with everything in its snapshot.
	Clean bool `json:"clean,omitempty"`
	// Unread words the paths that the snapshot lacks, as they could not be read.
	Unread string `json:"unread,omitempty"`
	// Ended: it is being deleted.
	Ended bool `json:"ended,omitempty"`
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

func stateMAC(key []byte, text string) string { return macOf(key, "mcp-sandbox state 1\n", text) }

// macOf signs a text. The label keeps a signature over something else from being one
// of this.
func macOf(key []byte, label, text string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(label))
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}

func sameMAC(a, b string) bool { return hmac.Equal([]byte(a), []byte(b)) }

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
		return savedState{}, errorf("invalid_argument", nil, "the saved session %s, so it cannot be resumed; delete it and start a new one", why)
	}
	var e envelope
	if len(b) > maxState || strictJSON(b, &e) != nil {
		return refuse("is damaged")
	}
	if e.Version != stateVersion {
		return refuse(fmt.Sprintf("has a format this server does not know (it knows %d)", stateVersion))
	}
	// Compared before it is parsed, so that nothing unauthenticated is parsed.
	if !sameMAC(e.MAC, stateMAC(key, e.State)) {
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

// key is the server's secret: the one it was given, or one made on first use.
func (s *state) key() ([]byte, error) {
	if s.given != nil {
		return s.given, nil
	}
	return s.random("key")
}

// instance distinguishes this state directory, or the directory that servers share,
// from every other, even one with the same key.
func (s *state) instance() ([]byte, error) {
	if s.lease == nil {
		return s.random("instance")
	}
	ctx, cancel := context.WithTimeout(context.Background(), entryTime)
	defer cancel()
	for {
		b, _, err := s.entries.Get(ctx, "instance")
		if errors.Is(err, fs.ErrNotExist) {
			_, err = s.entries.PutIf(ctx, "instance", []byte(randomHex(32)), "")
			if err == nil || errors.Is(err, directory.ErrConflict) {
				continue
			}
		}
		if err != nil {
			return nil, errorf("internal", err, "the session directory cannot be reached; check --store")
		}
		return b, nil
	}
}

// random is 32 random bytes in a file of mode 0600 in the state directory, made on
// first use. Two servers that start at the same time get the same.
func (s *state) random(file string) ([]byte, error) {
	name := filepath.Join(s.dir, file)
	for range 2 {
		b, err := directory.ReadPrivate(name, 64)
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
		if err := directory.WriteOnce(name, fresh); err != nil && !os.IsExist(err) {
			return nil, errorf("permission_denied", err, "the file %s of the state directory cannot be written; check the directory's permissions", file)
		}
	}
	return nil, errorf("internal", nil, "the file %s of the state directory comes and goes; check the directory", file)
}

var sessionName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`) })

func checkName(name string) error {
	if !sessionName().MatchString(name) {
		return errorf("invalid_argument", nil, "the session name %q is not one; use up to 64 letters, digits, - and _, starting with a letter or digit", name)
	}
	return nil
}

// lockName keeps a second server from using the same named session. Who deletes
// the session removes the file while it holds the lock, so a lock counts only if
// the file still has its name.
func (s *state) lockName(name string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Join(s.dir, "saved"), 0o700); err != nil {
		return nil, errorf("internal", err, "the state directory cannot be written; check --state-dir")
	}
	path := s.lockPath(name)
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, errorf("internal", err, "the state directory cannot be written; check --state-dir")
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, errorf("already_exists", errors.Join(&Elsewhere{Name: name}, err), "the session %q is in use by another server; end that one or choose another name", name)
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
			return nil, errorf("internal", err, "the state directory cannot be read; check --state-dir")
		}
	}
}

func (s *state) lockPath(name string) string { return filepath.Join(s.dir, "saved", name+".lock") }

// savedNames lists the named sessions that begin with prefix, sorted.
func (s *state) savedNames(prefix string) []string {
	var out []string
	ctx, cancel := context.WithTimeout(context.Background(), entryTime)
	defer cancel()
	names := s.entries.List
	if l, ok := s.entries.(*directory.Local); ok {
		names = l.Names
	}
	list, _ := names(ctx, "saved/"+prefix)
	for _, e := range list {
		if name, ok := strings.CutSuffix(strings.TrimPrefix(e.Key, "saved/"), ".json"); ok && sessionName().MatchString(name) {
			out = append(out, name)
		}
	}
	return out
}

func (s *state) savedEntries(ctx context.Context, prefix string) []directory.Entry {
	ctx, cancel := context.WithTimeout(ctx, entryTime)
	defer cancel()
	list, _ := s.entries.List(ctx, "saved/"+prefix)
	return list
}

// ledger is the ephemeral paths that sessions made in a caller's directory, so that
// the next one may replace those and nothing else.
func (s *state) ledgerPath(root string) string {
	sum := sha256.Sum256([]byte(root))
	return filepath.Join(s.dir, "ephemeral", hex.EncodeToString(sum[:12])+".json")
}

func (s *state) ledger(root string) []string {
	b, err := directory.ReadPrivate(s.ledgerPath(root), maxState)
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
	return directory.WriteOver(s.ledgerPath(root), b)
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand, Go 1.24)
	return hex.EncodeToString(b)
}

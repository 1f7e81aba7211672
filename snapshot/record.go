package snapshot

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"sort"
	"strings"
	"time"

	"mcp-sandbox/sandbox"
)

// Info is what is known of a snapshot without reading its content.
type Info struct {
	ID    string `json:"snapshot_id"`
	Label string `json:"label,omitempty"`
	Auto  bool   `json:"auto,omitempty"` // made by the server, not asked for
	// Baseline: the workspace before a session's first change.
	Baseline bool `json:"baseline,omitempty"`
	// WithoutIgnored: what version control ignores is not in it.
	WithoutIgnored bool      `json:"without_ignored,omitempty"`
	Time           time.Time `json:"time"`

	Files       int   `json:"files"` // names of files, with hard links
	Directories int   `json:"folders"`
	Links       int   `json:"links"`                // symbolic ones
	HardLinks   int   `json:"hard_links,omitempty"` // further names of a file listed before
	Bytes       int64 `json:"bytes"`                // the files' sizes together
	// StoredBytes is what this snapshot added to the store: its new content,
	// deduplicated and compressed, without its record.
	StoredBytes int64 `json:"stored_bytes"`

	// Skipped lists what could not be stored, at most 100 of SkippedCount.
	Skipped      []Skipped `json:"skipped,omitempty"`
	SkippedCount int       `json:"skipped_count,omitempty"`

	// Unchanged is set by Create when an automatic snapshot found the workspace
	// exactly as in the newest one, which is then returned instead of another.
	Unchanged bool `json:"-"`
	// Unread is set by Create: the paths that are there and not in the snapshot, as
	// they may not be read or are too long; at most 100 of UnreadCount.
	Unread      []string `json:"-"`
	UnreadCount int      `json:"-"`
}

// Skipped is one path that a snapshot does not hold as it was.
type Skipped struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

const maxSkipped = 100

// The reasons of a [Skipped].
const (
	skipFIFO       = "a FIFO"
	skipSocket     = "a socket"
	skipDevice     = "a device"
	skipMount      = "another file system is mounted there"
	skipUnreadable = "it may not be read"
	skipHidden     = "it is hidden from this session"
	skipProtected  = "it is protected from changes"
	skipLong       = "its path is longer than 4095 bytes"
	skipIgnored    = "version control ignores it, and the snapshot was taken without such files"
	skipChanging   = "it changed while it was read, stored as read"
)

// record is the object of a snapshot in its store: a line with the SHA-256 of
// the rest, then JSON.
type record struct {
	Version  int           `json:"version"`
	Info     Info          `json:"info"`
	Manifest []recordChunk `json:"manifest"`
}

// recordChunk is a chunk of the manifest and the place it was written to, so
// that the newest snapshot can be read without the index.
type recordChunk struct {
	ID   string `json:"id"`
	Pack string `json:"pack"`
	Off  uint32 `json:"off"`
	Size uint32 `json:"size"`
	Raw  uint32 `json:"raw"`
}

const (
	recordVersion = 1
	maxRecord     = 64 << 20
)

// idAlphabet is Crockford's base 32 in lower case: no letter looks like a
// digit when a person or a model copies an id.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

const (
	idTime   = 9 // characters of milliseconds since 1970: enough until the year 3084
	idRandom = 3
)

// newID makes an id that sorts after last, even when the clock went back.
func newID(now time.Time, last string) string {
	ms := uint64(max(now.UnixMilli(), 0))
	if len(last) >= idTime {
		ms = max(ms, uint64(idMilli(last))+1)
	}
	b := make([]byte, idTime+idRandom)
	for i := idTime - 1; i >= 0; i-- {
		b[i] = idAlphabet[ms&31]
		ms >>= 5
	}
	rand.Read(b[idTime:])
	for i := idTime; i < len(b); i++ {
		b[i] = idAlphabet[b[i]&31]
	}
	return string(b)
}

// idMilli is the time in an id, in milliseconds since 1970.
func idMilli(id string) int64 {
	var ms int64
	for _, c := range []byte(id[:idTime]) {
		ms = ms<<5 | int64(max(strings.IndexByte(idAlphabet, c), 0))
	}
	return ms
}

func validID(id string) bool {
	if len(id) != idTime+idRandom {
		return false
	}
	for _, c := range []byte(id) {
		if strings.IndexByte(idAlphabet, c) < 0 {
			return false
		}
	}
	return true
}

func (rec *record) encode() ([]byte, error) {
	body, err := json.Marshal(rec)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return append([]byte(hex.EncodeToString(sum[:])+"\n"), body...), nil
}

// decodeRecord reads a record, with brief without the manifest.
func decodeRecord(b []byte, id string, brief bool) (*record, error) {
	head, body, ok := bytes.Cut(b, []byte{'\n'})
	sum := sha256.Sum256(body)
	if !ok || string(head) != hex.EncodeToString(sum[:]) {
		return nil, damaged("the record of snapshot %s does not have its checksum", id)
	}
	var rec record
	read := json.Unmarshal
	if brief {
		read = readBrief
	}
	if err := read(body, &rec); err != nil {
		return nil, damaged("the record of snapshot %s cannot be read", id)
	}
	if rec.Version != recordVersion {
		return nil, damaged("the record of snapshot %s is of version %d, this program knows %d", id, rec.Version, recordVersion)
	}
	if rec.Info.ID != id {
		return nil, damaged("the record of snapshot %s is that of another", id)
	}
	return &rec, nil
}

// readBrief takes what stands before the manifest, which is nearly all of the text of
// a large tree.
func readBrief(body []byte, into any) error {
	rec := into.(*record)
	dec := json.NewDecoder(bytes.NewReader(body))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		switch key {
		case "version":
			err = dec.Decode(&rec.Version)
		case "info":
			err = dec.Decode(&rec.Info)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// chunks returns the manifest's pieces and where they were written.
func (rec *record) chunks() ([]piece, []place, error) {
	pieces := make([]piece, len(rec.Manifest))
	places := make([]place, len(rec.Manifest))
	for i, c := range rec.Manifest {
		id, err1 := hex.DecodeString(c.ID)
		pk, err2 := hex.DecodeString(c.Pack)
		if err1 != nil || err2 != nil || len(id) != 32 || len(pk) != 32 || c.Raw == 0 || c.Raw > maxChunk || c.Size == 0 || c.Size > maxStored {
			return nil, nil, damaged("the record of snapshot %s names impossible chunks", rec.Info.ID)
		}
		pieces[i] = piece{chunkID(id), int64(c.Raw)}
		places[i] = place{packID(pk), c.Off, c.Size, c.Raw}
	}
	return pieces, places, nil
}

// ids lists the snapshots of the store, oldest first.
func (r *Repo) ids(ctx context.Context) ([]string, error) {
	list, err := r.store.List(ctx, recordPrefix)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(list))
	for _, o := range list {
		if id := strings.TrimPrefix(o.Key, recordPrefix); validID(id) {
			out = append(out, id)
		}
	}
	sort.Strings(out)
	return out, nil
}

// load reads and verifies a record.
func (r *Repo) load(ctx context.Context, id string) (*record, error) {
	rec, err := r.read(ctx, id, false)
	if err == nil && r.far() {
		r.known.note(rec)
	}
	return rec, err
}

// info is load for who does not want the manifest.
func (r *Repo) info(ctx context.Context, id string) (Info, error) {
	read := r.load
	if !r.far() {
		read = func(ctx context.Context, id string) (*record, error) { return r.read(ctx, id, true) }
	}
	rec, err := read(ctx, id)
	if err != nil {
		return Info{}, err
	}
	return rec.Info, nil
}

func (r *Repo) read(ctx context.Context, id string, brief bool) (*record, error) {
	if !validID(id) {
		return nil, notFound(id)
	}
	b, err := getAll(ctx, r.store, recordPrefix+id, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(id)
	}
	if err != nil {
		return nil, fail(err, "snapshot %s could not be read", id)
	}
	rec, err := decodeRecord(b, id, brief)
	if err != nil {
		return nil, fail(err, "snapshot %s could not be read", id)
	}
	return rec, nil
}

func notFound(id string) error {
	return sandbox.Errorf(codeNotFound, nil, "there is no snapshot %s; list the snapshots to see those there are", quote(id))
}

// openManifest streams the entries of a snapshot.
func (r *Repo) openManifest(ctx context.Context, rec *record) (*manifestReader, error) {
	pieces, places, err := rec.chunks()
	if err != nil {
		return nil, err
	}
	pr, err := r.chunks.open(ctx, pieces, places)
	if err != nil {
		return nil, err
	}
	return newManifestReader(pr)
}

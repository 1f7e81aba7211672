package sandbox

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"
)

// TestTarReader: wherever an archive is cut, and however its bytes arrive, only one that
// has its end is whole.
func TestTarReader(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range map[string]string{"text": "x", "zeros": strings.Repeat("\x00", 2048), strings.Repeat("long/", 60): "", "empty": ""} {
		h := &tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644, Typeflag: tar.TypeReg, PAXRecords: map[string]string{"user.x": "y"}}
		if content == "" {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	end := b.Len() - 2*tarBlock
	for cut := 0; cut <= b.Len(); cut++ {
		below := NewTarReader(inParts(b.Bytes()[:cut], 1+cut%700))
		r, err := tar.NewReader(below), error(nil)
		for err == nil {
			if _, err = r.Next(); err == nil {
				_, err = io.Copy(io.Discard, r)
				below.Content()
			}
		}
		if got, want := err == io.EOF && below.Whole(), cut == end+tarBlock || cut == end+2*tarBlock; got != want {
			t.Errorf("%d of %d bytes: whole %v, %v", cut, b.Len(), got, err)
		}
	}
}

// parts gives a few bytes at a time.
type parts struct {
	r io.Reader
	n int
}

func (p parts) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.n)]) }

func inParts(b []byte, n int) io.Reader { return parts{bytes.NewReader(b), n} }

package ptyproc

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func testStore(t *testing.T, o Options) *spoolStore {
	t.Helper()
	o.SpoolDir = t.TempDir()
	s := newSpoolStore(o.withDefaults())
	t.Cleanup(s.close)
	return s
}

func TestSpoolTotal(t *testing.T) {
	s := testStore(t, Options{SpoolLimit: 1000, SpoolTotal: 2500})
	write := func(done bool) *spool {
		sp := s.create()
		sp.write(bytes.Repeat([]byte("x"), 1000))
		if done {
			s.finished(sp.id)
		}
		return sp
	}
	running, first, second := write(false), write(true), write(true)
	if second.size != 1000 {
		t.Fatalf("%d bytes kept", second.size)
	}
	if _, err := s.find(first.id); err == nil {
		t.Error("the oldest ended output was not let go")
	}
	if _, err := os.Stat(first.path); !os.IsNotExist(err) {
		t.Errorf("its file: %v", err)
	}
	if _, err := s.find(running.id); err != nil {
		t.Errorf("the output of a running process was let go: %v", err)
	}
	// Only running ones left: what does not fit is counted.
	third := write(false)
	fourth := write(false)
	if third.size != 1000 || fourth.size != 500 || fourth.missing != 500 {
		t.Errorf("kept %d and %d, missing %d", third.size, fourth.size, fourth.missing)
	}
	if s.size > 2500 {
		t.Errorf("%d bytes in all", s.size)
	}
	// An early end, never a hole.
	fourth.write([]byte("more"))
	if fourth.size != 500 || fourth.missing != 504 {
		t.Errorf("kept %d, missing %d", fourth.size, fourth.missing)
	}
}

func TestSpoolFile(t *testing.T) {
	s := testStore(t, Options{})
	sp := s.create()
	sp.write([]byte("one\ntwo\n"))
	info, err := os.Stat(sp.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	f, size, _, err := s.open(sp.id)
	if err != nil || size != 8 {
		t.Fatalf("%d %v", size, err)
	}
	_ = f.Close()
	s.close()
	if left, _ := filepath.Glob(filepath.Join(s.dir, "*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if _, _, _, err := s.open(sp.id); err == nil {
		t.Error("readable after close")
	}
}

// TestSpoolUnwritable: a command does not fail because its output cannot be
// kept, and no path shows in what is said about it.
func TestSpoolUnwritable(t *testing.T) {
	s := newSpoolStore(Options{SpoolDir: filepath.Join(t.TempDir(), "missing")}.withDefaults())
	sp := s.create()
	sp.write([]byte("text"))
	_, _, _, err := s.open(sp.id)
	if err == nil || strings.Contains(err.Error(), s.dir) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("%v", err)
	}
}

func TestLines(t *testing.T) {
	long := strings.Repeat("é", maxLineBytes)
	for _, c := range []struct {
		name, in string
		want     []string
		cut      bool
	}{
		{"empty", "", nil, false},
		{"no end", "a\nb", []string{"a", "b"}, false},
		{"ends", "a\n\nb\n", []string{"a", "", "b"}, false},
		{"terminal ends", "a\r\nb\r\n", []string{"a", "b"}, false},
		{"long", long + "\nb\n", []string{long[:maxLineBytes], "b"}, true},
		{"exactly as long as the buffer", strings.Repeat("x", maxLineBytes-1) + "\nb\n", []string{strings.Repeat("x", maxLineBytes-1), "b"}, false},
	} {
		var chunk OutputChunk
		if err := chunk.scan(section(c.in), 1, 100, nil); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if len(chunk.Lines) != len(c.want) || chunk.TotalLines != len(c.want) {
			t.Errorf("%s: %d lines", c.name, len(chunk.Lines))
			continue
		}
		for i, l := range chunk.Lines {
			if l.Text != c.want[i] || l.Number != i+1 || l.Cut != (c.cut && i == 0) {
				t.Errorf("%s: line %d is %.40q (%d bytes, cut %v)", c.name, i, l.Text, len(l.Text), l.Cut)
			}
		}
		n, err := countLines(strings.NewReader(c.in))
		if err != nil || n != len(c.want) {
			t.Errorf("%s: counted %d, %v", c.name, n, err)
		}
	}
}

// TestChunkBound: many long lines do not make one huge answer.
func TestChunkBound(t *testing.T) {
	r := section(strings.Repeat(strings.Repeat("x", 50<<10)+"\n", 64))
	var chunk OutputChunk
	if err := chunk.scan(r, 1, maxLines, nil); err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, l := range chunk.Lines {
		size += len(l.Text)
	}
	if size > maxChunk || chunk.Next != len(chunk.Lines)+1 {
		t.Errorf("%d bytes, next %d after %d lines", size, chunk.Next, len(chunk.Lines))
	}
}

func section(s string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(s), 0, int64(len(s)))
}

// TestLongLineMatch: a pattern reaches every byte of a line, however long, and
// shows what is around the match; a bare CR ends a line.
func TestLongLineMatch(t *testing.T) {
	text := "first\nhead " + strings.Repeat("x", 2_000_000) + " NEEDLE " + strings.Repeat("y", 2_000_000) + " tail\n" +
		strings.Repeat("\r 10%", 3000) + "\rERROR: disk full\r" + strings.Repeat("\r 20%", 3000)
	for pattern, want := range map[string]string{"NEEDLE": "x NEEDLE y", "tail$": "y tail", "^head": "head xxx", "ERROR": "ERROR: disk full"} {
		var chunk OutputChunk
		if err := chunk.scan(section(text), 1, 10, regexp.MustCompile(pattern)); err != nil {
			t.Fatal(err)
		}
		if len(chunk.Lines) != 1 || !strings.Contains(chunk.Lines[0].Text, want) {
			t.Fatalf("%s: %d lines", pattern, len(chunk.Lines))
		}
		l := chunk.Lines[0]
		if len(l.Text) > 4*neighbourhood || text[l.At:l.At+int64(len(l.Text))] != l.Text {
			t.Errorf("%s: %d bytes at %d", pattern, len(l.Text), l.At)
		}
	}
}

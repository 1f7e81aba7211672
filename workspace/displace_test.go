package workspace

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestAppendsOutliveEdits: what programs add to a file while it is edited or
// patched is there afterwards.
func TestAppendsOutliveEdits(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells who has a file open for writing")
	}
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"f": "value 0\n", "g": "-> f"})
	const writers, lines, edits = 3, 400, 120
	var wg sync.WaitGroup
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range lines {
				file, err := os.OpenFile(dir+"/f", os.O_WRONLY|os.O_APPEND, 0)
				if err != nil {
					t.Error(err)
					return
				}
				fmt.Fprintf(file, "writer %d line %d.\n", w, i)
				file.Close()
			}
		}()
	}
	refused := 0
	for i := range edits {
		old, new := fmt.Sprintf("value %d\n", i), fmt.Sprintf("value %d\n", i+1)
		for {
			var err error
			if i%2 == 0 {
				_, err = f.EditFile(ctx, EditRequest{Path: "f", OldText: old, NewText: new})
			} else {
				_, err = f.ApplyPatch(ctx, envelope("*** Update File: f\n@@\n-"+old+"+"+new))
			}
			if err == nil {
				break
			}
			wantCode(t, err, codeConflict)
			refused++
		}
	}
	wg.Wait()
	got := get(t, dir+"/f")
	if !strings.HasPrefix(got, fmt.Sprintf("value %d\n", edits)) || strings.Count(got, "value") != 1 {
		t.Errorf("the edits made %.60q", got)
	}
	lost := 0
	for w := range writers {
		lost += lostLines(got, w, lines)
	}
	if n := strings.Count(got, "writer"); lost > 0 || n != writers*lines {
		t.Errorf("%d lines lost, %d there", lost, n)
	}
	t.Logf("%d of %d edits were tried again", refused, edits)
	if names := snapshotTree(t, dir); len(names) != 3 {
		t.Errorf("left behind: %v", names)
	}
}

// lostLines counts the lines of a writer that are missing. They need not be in order: one
// added to the old file is carried over after one that the same program already added to
// the new one.
func lostLines(got string, writer, lines int) (lost int) {
	there := map[string]bool{}
	for line := range strings.SplitSeq(got, "\n") {
		there[line] = true
	}
	for i := range lines {
		if !there[fmt.Sprintf("writer %d line %d.", writer, i)] {
			lost++
		}
	}
	return lost
}

// TestAppendsOutliveMoves: what programs add to a file while patches move it is
// there afterwards, under the one name or the other.
func TestAppendsOutliveMoves(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells who has a file open for writing")
	}
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"a": "value 0\n"})
	const writers, moves = 3, 60
	var wg sync.WaitGroup
	var moved atomic.Int64
	var lines [writers]int
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; moved.Load() < moves; i++ {
				for int64(i) > 50*(moved.Load()+1) && moved.Load() < moves {
					runtime.Gosched() // no more for this move
				}
				file, err := os.OpenFile(dir+"/a", os.O_WRONLY|os.O_APPEND, 0)
				for n := 1; err != nil; n++ {
					file, err = os.OpenFile(dir+"/"+string("ab"[n%2]), os.O_WRONLY|os.O_APPEND, 0)
				}
				for range i % 20 {
					runtime.Gosched()
				}
				fmt.Fprintf(file, "writer %d line %d.\n", w, i)
				file.Close()
				lines[w] = i + 1
			}
		}()
	}
	refused := 0
	for i := range moves {
		from, to := "ab"[i%2], "ab"[(i+1)%2]
		for {
			_, err := f.ApplyPatch(ctx, envelope(fmt.Sprintf("*** Update File: %c\n*** Move to: %c\n@@\n-value %d\n+value %d\n", from, to, i, i+1)))
			if err == nil {
				break
			}
			wantCode(t, err, codeConflict)
			refused++
		}
		moved.Add(1)
	}
	wg.Wait()
	got := get(t, dir+"/"+string("ab"[moves%2]))
	if !strings.HasPrefix(got, fmt.Sprintf("value %d\n", moves)) || strings.Count(got, "value") != 1 {
		t.Errorf("the moves made %.60q", got)
	}
	lost := 0
	for w := range writers {
		lost += lostLines(got, w, lines[w])
	}
	if lost > 0 {
		t.Errorf("%d lines lost", lost)
	}
	t.Logf("%v lines; %d of %d moves were tried again", lines, refused, moves)
	if left := snapshotTree(t, dir); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

// TestDisplaced: each way in which the old file can change while a new one takes
// its name.
func TestDisplaced(t *testing.T) {
	for _, tc := range []struct {
		name string
		act  func(dir string, d *displaced)
		err  error
		want string // the file afterwards
	}{
		{"nothing", func(string, *displaced) {}, nil, "new\n"},
		{"an addition", func(dir string, d *displaced) { add(dir+"/tmp", "more\n") }, nil, "new\nmore\n"},
		{"an addition to the new one", func(dir string, d *displaced) { add(dir+"/f", "x\n") }, nil, "new\nx\n"},
		{"written over", func(dir string, d *displaced) { os.WriteFile(dir+"/tmp", []byte("other content\n"), 0o644) }, errRewritten, "other content\n"},
		{"shorter", func(dir string, d *displaced) { os.Truncate(dir+"/tmp", 1) }, errRewritten, "o"},
		{"written over, and an addition to the new one", func(dir string, d *displaced) {
			os.WriteFile(dir+"/tmp", []byte("other content\n"), 0o644)
			add(dir+"/f", "x\n")
		}, errRewritten, "other content\nx\n"},
		{"replaced", func(dir string, d *displaced) {
			os.WriteFile(dir+"/n", []byte("foreign\n"), 0o644)
			os.Rename(dir+"/n", dir+"/tmp")
		}, errRewritten, "foreign\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, dir, _ := newFS(t, Options{})
			put(t, dir, map[string]string{"f": "old\n", "tmp": "new\n"})
			fd := int(f.RootFile().Fd())
			was, err := statAt(fd, "f")
			if err != nil {
				t.Fatal(err)
			}
			d, err := displace(fd, "tmp", "f", was)
			if err != nil {
				t.Fatal(err)
			}
			defer d.close()
			tc.act(dir, d)
			if err := d.settle(ctx, func() ([]byte, error) { return []byte("old\n"), nil }); err != tc.err {
				t.Fatalf("%v, want %v", err, tc.err)
			} else if err != nil {
				d.back()
			}
			if got := get(t, dir+"/f"); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func add(path, text string) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		file.WriteString(text)
		file.Close()
	}
}

// TestMadeDuringTheCall: a file that a program makes between the look of a write and
// its end is kept by an append, and an overwrite says that it made nothing.
func TestMadeDuringTheCall(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	const tries = 200
	both := 0
	for i := range tries {
		name := fmt.Sprintf("f%d", i)
		for _, mode := range []WriteMode{WriteAppend, WriteOverwrite, WriteCreate} {
			var made bool
			start, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				<-start
				for range i % 50 {
					runtime.Gosched()
				}
				file, err := os.OpenFile(dir+"/"+name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
				if made = err == nil; made {
					file.WriteString("program\n")
					file.Close()
				}
			}()
			close(start)
			res, err := f.WriteFile(ctx, WriteRequest{Path: name, Content: []byte("tool\n"), Mode: mode})
			<-done
			got := get(t, dir+"/"+name)
			switch {
			case mode == WriteCreate && made:
				wantCode(t, err, codeExists)
				if got != "program\n" {
					t.Errorf("%s: %q", mode, got)
				}
			case err != nil:
				t.Errorf("%s: %v", mode, err)
			case res.Created == made:
				t.Errorf("%s: the tool says created %t, and the program made the file: %t; it holds %q", mode, res.Created, made, got)
			case mode == WriteAppend && made && got != "program\ntool\n" && got != "tool\nprogram\n":
				t.Errorf("%s: %q", mode, got)
			}
			if made {
				both++
			}
			os.Remove(dir + "/" + name)
		}
	}
	t.Logf("the program was first in %d of %d", both, 3*tries)
}

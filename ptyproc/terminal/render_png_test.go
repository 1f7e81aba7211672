package terminal

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"testing"
)

func drawn(t *testing.T, s Screen) image.Image {
	t.Helper()
	data, err := s.PNG()
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if b := img.Bounds(); b.Dx() != s.Cols*cellWidth || b.Dy() != s.Rows*cellHeight {
		t.Fatalf("picture of %v for %dx%d cells", b, s.Cols, s.Rows)
	}
	return img
}

// share is how many of a cell's pixels have the colour, in percent.
func share(img image.Image, x, y int, want color.RGBA) int {
	n := 0
	for dy := range cellHeight {
		for dx := range cellWidth {
			if color.RGBAModel.Convert(img.At(x*cellWidth+dx, y*cellHeight+dy)) == want {
				n++
			}
		}
	}
	return n * 100 / (cellWidth * cellHeight)
}

func TestPictureColours(t *testing.T) {
	fg, bg := rgba(defaultForeground), rgba(defaultBackground)
	red := rgba(indexed | 1)
	s, _ := shown(8, 2, "\x1b[?25l \x1b[41m \x1b[m\x1b[7m \x1b[m\x1b[48;2;1;2;3m \x1b[m█M\x1b[1mM\x1b[m你")
	img := drawn(t, s)
	for x, want := range []color.RGBA{bg, red, fg, {R: 1, G: 2, B: 3, A: 255}, fg} {
		if got := share(img, x, 0, want); got != 100 {
			t.Errorf("cell %d: %d%% have colour %v", x, got, want)
		}
	}
	thin, thick := share(img, 5, 0, bg), share(img, 6, 0, bg)
	if thin == 100 || thick >= thin {
		t.Errorf("%d%% of M and %d%% of bold M are background", thin, thick)
	}
	// Not in the font: a box over both columns, on the next line.
	if share(img, 0, 1, fg) == 0 || share(img, 1, 1, fg) == 0 || share(img, 2, 1, bg) != 100 {
		t.Error("a character the font lacks does not show")
	}

	s, _ = shown(3, 1, "\x1b[31m█")
	if img := drawn(t, s); share(img, 1, 0, fg) != 100 {
		t.Error("the cursor does not show")
	}
	s, _ = shown(3, 1, "\x1b[?5h\x1b[?25l")
	if img := drawn(t, s); share(img, 2, 0, fg) != 100 {
		t.Error("the reversed screen does not show")
	}
}

// TestLinesJoin: every arm of a box drawing character reaches the edge of its
// cell at the same pixels as that of its neighbour.
func TestLinesJoin(t *testing.T) {
	fg := rgba(defaultForeground)
	edge := func(r rune, i int) string {
		e := New(1, 1)
		e.hidden = true
		e.print(r)
		img := drawn(t, e.Snapshot())
		out := ""
		for k := range cellHeight {
			x, y := k, 0
			switch i {
			case 1:
				x, y = cellWidth-1, k
			case 2:
				x, y = k, cellHeight-1
			case 3:
				x, y = 0, k
			}
			if x >= cellWidth {
				break
			}
			if color.RGBAModel.Convert(img.At(x, y)) == fg {
				out += "#"
			} else {
				out += "."
			}
		}
		return out
	}
	// The straight lines say how each weight must look at each edge.
	straight := map[byte][4]string{}
	for weight, r := range map[byte][2]rune{'1': {'│', '─'}, '2': {'┃', '━'}, '3': {'║', '═'}} {
		straight[weight] = [4]string{edge(r[0], 0), edge(r[1], 1), edge(r[0], 2), edge(r[1], 3)}
		if straight[weight][0] != straight[weight][2] || straight[weight][1] != straight[weight][3] {
			t.Errorf("weight %c: opposite edges differ: %q", weight, straight[weight])
		}
	}
	for r := rune(0x2500); r < 0x2580; r++ {
		if r >= 0x2571 && r <= 0x2573 {
			continue
		}
		for i := range 4 {
			weight := arms[int(r-0x2500)*4+i]
			got := edge(r, i)
			if weight != '0' && got != straight[weight][i] {
				t.Errorf("%c edge %d: %s, want %s", r, i, got, straight[weight][i])
			}
			if weight == '0' && bytes.ContainsRune([]byte(got), '#') {
				t.Errorf("%c edge %d: %s, want none", r, i, got)
			}
		}
	}
}

func TestBlocks(t *testing.T) {
	fg := rgba(defaultForeground)
	for r, want := range map[rune]int{
		'█': 100, '▀': 50, '▄': 50, '▌': 44, '▐': 55, '▖': 22, '▗': 27, '▘': 22, '▝': 27, '▚': 50, '▞': 50, '▙': 72, '▛': 72, '▜': 77, '▟': 77, '▁': 16, '▇': 88,
	} {
		e := New(1, 1)
		e.hidden = true
		e.print(r)
		if got := share(drawn(t, e.Snapshot()), 0, 0, fg); got != want {
			t.Errorf("%c covers %d%%, want %d%%", r, got, want)
		}
	}
	for bits := range 256 {
		e := New(1, 1)
		e.hidden = true
		e.print(rune(0x2800 + bits))
		dots := 0
		for b := bits; b > 0; b &= b - 1 {
			dots++
		}
		if got, want := share(drawn(t, e.Snapshot()), 0, 0, fg), dots*4*100/(cellWidth*cellHeight); got != want {
			t.Errorf("pattern %02x covers %d%%, want %d%%", bits, got, want)
		}
	}
}

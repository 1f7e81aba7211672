package terminal

import (
	"image"
	"image/color"
)

// arms gives U+2500 to U+257F as four digits each: the weight of the line from
// the middle up, right, down and left; 1 is light, 2 heavy, 3 double. Dashed
// lines are drawn whole, rounded corners square, and the three diagonals (0000)
// apart.
const arms = "" +
	"0101020210102020010102021010202001010202101020200110021001200220" + // 2500-250F
	"0011001200210022110012002100220010011002200120021110121021101120" + // 2510-251F
	"2120221012202220101110122011102120212012102220220111011202110212" + // 2520-252F
	"0121012202210222110111021201120221012102220122021111111212111212" + // 2530-253F
	"2111112121212112221111221221221212222122222122220101020210102020" + // 2540-254F
	"0303303003100130033000130031003313003100330010033001300313103130" + // 2550-255F
	"3330101330313033031301310333130331013303131331313333011000111001" + // 2560-256F
	"1100000000000000000110000100001000022000020000200201102001022010" // 2570-257F

// drawShape draws the characters that must meet their neighbours and reports
// whether r is one.
func drawShape(dst *image.RGBA, at image.Rectangle, r rune, fg, bg color.RGBA) bool {
	switch {
	case r >= 0x2571 && r <= 0x2573:
		diagonals(dst, at, r, fg)
	case r >= 0x2500 && r <= 0x257f:
		i := int(r-0x2500) * 4
		drawArms(dst, at, arms[i:i+4], fg)
	case r >= 0x2580 && r <= 0x259f:
		drawBlock(dst, at, r, fg, bg)
	case r >= 0x2800 && r <= 0x28ff:
		drawBraille(dst, at, int(r-0x2800), fg)
	default:
		return false
	}
	return true
}

func drawArms(dst *image.RGBA, at image.Rectangle, weights string, fg color.RGBA) {
	mx, my := (at.Min.X+at.Max.X)/2, (at.Min.Y+at.Max.Y)/2
	// How far the lines of each direction lie from the middle: an arm must reach
	// the outer line of those it meets.
	reach := func(a, b byte) int {
		switch max(a, b) {
		case '3':
			return 2
		case '2':
			return 1
		}
		return 0
	}
	across := reach(weights[1], weights[3]) // of the horizontal lines
	along := reach(weights[0], weights[2])  // of the vertical lines
	for i := range 4 {
		for _, line := range lines(weights[i]) {
			// Where a double line turns, each of its two meets its own continuation:
			// the inner one ends at the inner one.
			side := 1 + i%2
			if line[0] < 0 {
				side = 3 * (1 - i%2)
			}
			back := across
			if i%2 == 1 {
				back = along
			}
			if weights[i] == '3' && weights[side] == '3' {
				back = -2
			}
			var r image.Rectangle
			switch i {
			case 0:
				r = image.Rect(mx+line[0], at.Min.Y, mx+line[1], my+back+1)
			case 1:
				r = image.Rect(mx-back, my+line[0], at.Max.X, my+line[1])
			case 2:
				r = image.Rect(mx+line[0], my-back, mx+line[1], at.Max.Y)
			case 3:
				r = image.Rect(at.Min.X, my+line[0], mx+back+1, my+line[1])
			}
			fill(dst, r.Intersect(at), fg)
		}
	}
}

// lines gives the offsets from the middle at which a weight is drawn.
func lines(weight byte) [][2]int {
	switch weight {
	case '1':
		return [][2]int{{0, 1}}
	case '2':
		return [][2]int{{-1, 2}}
	case '3':
		return [][2]int{{-2, -1}, {2, 3}}
	}
	return nil
}

func diagonals(dst *image.RGBA, at image.Rectangle, r rune, fg color.RGBA) {
	w, h := at.Dx(), at.Dy()
	for y := range h {
		x := y * w / h
		if r != 0x2571 {
			dst.SetRGBA(at.Min.X+x, at.Min.Y+y, fg)
		}
		if r != 0x2572 {
			dst.SetRGBA(at.Max.X-1-x, at.Min.Y+y, fg)
		}
	}
}

func drawBlock(dst *image.RGBA, at image.Rectangle, r rune, fg, bg color.RGBA) {
	w, h := at.Dx(), at.Dy()
	part := func(x0, y0, x1, y1, of int) {
		fill(dst, image.Rect(at.Min.X+x0*w/of, at.Min.Y+y0*h/of, at.Min.X+x1*w/of, at.Min.Y+y1*h/of), fg)
	}
	switch n := int(r - 0x2580); {
	case r == 0x2580:
		part(0, 0, 8, 4, 8)
	case n <= 8: // from the lowest eighth to the whole
		part(0, 8-n, 8, 8, 8)
	case n <= 0x0f: // from seven eighths on the left to one
		part(0, 0, 0x10-n, 8, 8)
	case r == 0x2590:
		part(4, 0, 8, 8, 8)
	case n <= 0x13: // shades
		fill(dst, at, mix(fg, bg, n-0x10, 4))
	case r == 0x2594:
		part(0, 0, 8, 1, 8)
	case r == 0x2595:
		part(7, 0, 8, 8, 8)
	default:
		// The quadrants upper left, upper right, lower left, lower right.
		q := [...]int{4, 8, 1, 13, 9, 7, 11, 2, 6, 14}[n-0x16]
		for i, bit := range []int{1, 2, 4, 8} {
			if q&bit != 0 {
				x, y := i%2, i/2
				part(x, y, x+1, y+1, 2)
			}
		}
	}
}

// drawBraille sets the dots of a Braille pattern: bits 0-2 and 6 are the left
// column from above, 3-5 and 7 the right (Unicode Standard 16.0, section 21.1).
func drawBraille(dst *image.RGBA, at image.Rectangle, bits int, fg color.RGBA) {
	for i, xy := range [8][2]int{{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}, {0, 3}, {1, 3}} {
		if bits&(1<<i) == 0 {
			continue
		}
		x := at.Min.X + 2 + xy[0]*4
		y := at.Min.Y + 2 + xy[1]*4
		fill(dst, image.Rect(x, y, x+2, y+2).Intersect(at), fg)
	}
}

package terminal

import (
	"fmt"
	"image/color"
)

// colour is 0 for the default, else a kind in the top byte: a number of the 256
// or red, green and blue.
type colour uint32

const (
	indexed colour = 1 << 24
	direct  colour = 2 << 24
)

type attributes uint16

const (
	bold attributes = 1 << iota
	dim
	italic
	underline
	blink
	reverse
	conceal
	strike
)

type style struct {
	fg, bg colour
	attr   attributes
}

// apply acts on SGR (ECMA-48 8.3.117, ITU-T T.416 13.1.8 for colours).
func (s *style) apply(ps *parser) {
	for i := 0; i < ps.n; i++ {
		p := ps.param(i, 0)
		switch {
		case p == 0:
			*s = style{}
		case p == 4 && i+1 < ps.n && ps.sub[i+1]:
			// 4:0 is none, the others are shapes of underlines.
			s.set(underline, ps.param(i+1, 1) != 0)
		case p >= 1 && p <= 9:
			s.set(attributeOf(p), true)
		case p == 21:
			s.set(underline, true)
		case p == 22:
			s.set(bold|dim, false)
		case p >= 23 && p <= 29:
			s.set(attributeOf(p-20), false)
		case p >= 30 && p <= 37:
			s.fg = indexed | colour(p-30)
		case p >= 40 && p <= 47:
			s.bg = indexed | colour(p-40)
		case p >= 90 && p <= 97:
			s.fg = indexed | colour(p-90+8)
		case p >= 100 && p <= 107:
			s.bg = indexed | colour(p-100+8)
		case p == 39:
			s.fg = 0
		case p == 49:
			s.bg = 0
		case p == 38 || p == 48 || p == 58:
			c, used, ok := extended(ps, i+1)
			i += used
			if ok && p == 38 {
				s.fg = c
			}
			if ok && p == 48 {
				s.bg = c
			}
		}
		// What belongs to this parameter by colons is not a parameter of its own.
		for i+1 < ps.n && ps.sub[i+1] {
			i++
		}
	}
}

func (s *style) set(a attributes, on bool) {
	if on {
		s.attr |= a
	} else {
		s.attr &^= a
	}
}

func attributeOf(p int) attributes {
	return [...]attributes{1: bold, 2: dim, 3: italic, 4: underline, 5: blink, 6: blink, 7: reverse, 8: conceal, 9: strike}[p]
}

// extended reads 5;N, 2;R;G;B, 5:N, 2:R:G:B or 2:SPACE:R:G:B at i.
func extended(ps *parser, i int) (c colour, used int, ok bool) {
	switch ps.param(i, 0) {
	case 5:
		n := ps.param(i+1, 0)
		return indexed | colour(n&0xff), 2, n <= 255
	case 2:
		at := i + 1
		used = 4
		if i < ps.n && ps.sub[i] {
			subs := 0
			for j := i + 1; j < ps.n && ps.sub[j]; j++ {
				subs++
			}
			used = 1 + subs
			if subs >= 4 {
				at++ // the colour space
			}
		}
		r, g, b := ps.param(at, 0), ps.param(at+1, 0), ps.param(at+2, 0)
		return direct | colour(r&0xff)<<16 | colour(g&0xff)<<8 | colour(b&0xff), used, r <= 255 && g <= 255 && b <= 255
	}
	return 0, 1, false
}

// The colours of a dark xterm.
const (
	defaultForeground colour = direct | 0xe5e5e5
	defaultBackground colour = direct | 0x101010
)

func colourAnswer(number int, c colour) string {
	v := rgba(c)
	return fmt.Sprintf("\x1b]%d;rgb:%02x%02x/%02x%02x/%02x%02x\x1b\\", number, v.R, v.R, v.G, v.G, v.B, v.B)
}

// rgba resolves a colour that is not the default.
func rgba(c colour) color.RGBA {
	if c&^0xffffff == direct {
		return color.RGBA{R: uint8(c >> 16), G: uint8(c >> 8), B: uint8(c), A: 255}
	}
	n := int(c & 0xff)
	switch {
	case n < 16:
		v := [16]uint32{
			0x000000, 0xcd3131, 0x0dbc79, 0xe5e510, 0x2472c8, 0xbc3fbc, 0x11a8cd, 0xe5e5e5,
			0x666666, 0xf14c4c, 0x23d18b, 0xf5f543, 0x3b8eea, 0xd670d6, 0x29b8db, 0xffffff,
		}[n]
		return color.RGBA{R: uint8(v >> 16), G: uint8(v >> 8), B: uint8(v), A: 255}
	case n < 232:
		level := func(v int) uint8 {
			if v == 0 {
				return 0
			}
			return uint8(55 + 40*v)
		}
		n -= 16
		return color.RGBA{R: level(n / 36), G: level(n / 6 % 6), B: level(n % 6), A: 255}
	}
	grey := uint8(8 + 10*(n-232))
	return color.RGBA{R: grey, G: grey, B: grey, A: 255}
}

package terminal

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/gomonobold"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
	"golang.org/x/text/unicode/norm"
)

// The size of a cell in pixels. Go Mono's characters are 0.6 em wide, so 15
// pixels to the em gives a whole number.
const (
	emPixels   = 15
	cellWidth  = 9
	cellHeight = 18
	baseline   = 14
)

// fonts are parsed on the first picture, not when the program starts.
var fonts = sync.OnceValues(func() ([2]*sfnt.Font, error) {
	regular, err := opentype.Parse(gomono.TTF)
	if err != nil {
		return [2]*sfnt.Font{}, err
	}
	heavy, err := opentype.Parse(gomonobold.TTF)
	return [2]*sfnt.Font{regular, heavy}, err
})

// PNG draws the screen with its colours, bold, reverse, underline and the
// cursor. Box drawing, blocks and Braille are drawn so that they join; a
// character the font lacks is an empty box.
func (s Screen) PNG() ([]byte, error) {
	p, err := newPicture(s)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := encoder.Encode(&b, p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// picture is the image of a screen. It holds one line of it at a time, so that
// the largest screen costs no more memory than a line.
type picture struct {
	screen Screen
	faces  [2]font.Face
	strip  *image.RGBA
	line   int
}

func newPicture(s Screen) (*picture, error) {
	f, err := fonts()
	if err != nil {
		return nil, err
	}
	p := &picture{screen: s, line: -1, strip: image.NewRGBA(image.Rect(0, 0, s.Cols*cellWidth, cellHeight))}
	for i := range p.faces {
		// Faces are not safe for concurrent use, fonts are.
		if p.faces[i], err = opentype.NewFace(f[i], &opentype.FaceOptions{Size: emPixels, DPI: 72, Hinting: font.HintingFull}); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *picture) ColorModel() color.Model { return color.RGBAModel }

func (p *picture) Bounds() image.Rectangle {
	return image.Rect(0, 0, p.screen.Cols*cellWidth, p.screen.Rows*cellHeight)
}

// Opaque spares the encoder a pass over the picture and the alpha channel.
func (p *picture) Opaque() bool { return true }

// At draws a line of cells when the encoder first asks for a pixel of it.
func (p *picture) At(x, y int) color.Color {
	if line := y / cellHeight; line != p.line {
		p.draw(line)
		p.line = line
	}
	return p.strip.RGBAAt(x, y%cellHeight)
}

func (p *picture) draw(y int) {
	row := p.screen.lines[y]
	for x := 0; x < len(row); x++ {
		c := row[x]
		columns := 1
		if x+1 < len(row) && row[x+1].r == wideTail {
			columns = 2
		}
		cursor := p.screen.CursorVisible && p.screen.CursorRow == y && p.screen.CursorCol >= x && p.screen.CursorCol < x+columns
		p.drawCell(image.Rect(x*cellWidth, 0, (x+columns)*cellWidth, cellHeight), c, cursor)
		x += columns - 1
	}
}

func (p *picture) drawCell(at image.Rectangle, c cell, cursor bool) {
	fg, bg := c.style.colours()
	if p.screen.reversed != cursor {
		fg, bg = bg, fg
	}
	fill(p.strip, at, bg)
	attr := c.style.attr
	if attr&conceal != 0 {
		return
	}
	if c.r > ' ' {
		if !drawShape(p.strip, at, c.r, fg, bg) {
			p.drawGlyph(at, c, fg)
		}
	}
	if attr&underline != 0 {
		fill(p.strip, image.Rect(at.Min.X, baseline+2, at.Max.X, baseline+3), fg)
	}
	if attr&strike != 0 {
		fill(p.strip, image.Rect(at.Min.X, baseline-5, at.Max.X, baseline-4), fg)
	}
}

// colours resolves a style to what is painted.
func (s style) colours() (fg, bg color.RGBA) {
	f, b := s.fg, s.bg
	if f == 0 {
		f = defaultForeground
	}
	if b == 0 {
		b = defaultBackground
	}
	fg, bg = rgba(f), rgba(b)
	if s.attr&dim != 0 {
		fg = mix(fg, bg, 2, 3)
	}
	if s.attr&reverse != 0 {
		fg, bg = bg, fg
	}
	return fg, bg
}

// mix is n parts of a in m.
func mix(a, b color.RGBA, n, m int) color.RGBA {
	part := func(x, y uint8) uint8 { return uint8((int(x)*n + int(y)*(m-n)) / m) }
	return color.RGBA{R: part(a.R, b.R), G: part(a.G, b.G), B: part(a.B, b.B), A: 255}
}

func (p *picture) drawGlyph(at image.Rectangle, c cell, fg color.RGBA) {
	face := p.faces[0]
	if c.style.attr&bold != 0 {
		face = p.faces[1]
	}
	// A part of the image, so that a glyph cannot run into its neighbours.
	within := p.strip.SubImage(at).(*image.RGBA)
	runes := []rune{c.r}
	if c.marks != 0 {
		// The font has few marks but many composed characters.
		runes = []rune(norm.NFC.String(string(c.r) + p.screen.marks.get(c.marks)))
	}
	for i, r := range runes {
		if i == 0 && !p.has(c.style.attr&bold != 0, r) {
			outline(p.strip, at.Inset(2), fg)
			return
		}
		if i > 0 && !p.has(c.style.attr&bold != 0, r) {
			continue
		}
		d := font.Drawer{
			Dst: within, Src: image.NewUniform(fg), Face: face,
			Dot: fixed.P(at.Min.X, baseline),
		}
		d.DrawString(string(r))
	}
}

// has reports whether the font draws r; the face would draw its own empty box.
func (p *picture) has(heavy bool, r rune) bool {
	f, err := fonts()
	if err != nil {
		return false
	}
	i := 0
	if heavy {
		i = 1
	}
	var b sfnt.Buffer
	index, err := f[i].GlyphIndex(&b, r)
	return err == nil && index != 0
}

func fill(dst draw.Image, r image.Rectangle, c color.RGBA) {
	draw.Draw(dst, r, image.NewUniform(c), image.Point{}, draw.Src)
}

func outline(dst draw.Image, r image.Rectangle, c color.RGBA) {
	fill(dst, image.Rect(r.Min.X, r.Min.Y, r.Max.X, r.Min.Y+1), c)
	fill(dst, image.Rect(r.Min.X, r.Max.Y-1, r.Max.X, r.Max.Y), c)
	fill(dst, image.Rect(r.Min.X, r.Min.Y, r.Min.X+1, r.Max.Y), c)
	fill(dst, image.Rect(r.Max.X-1, r.Min.Y, r.Max.X, r.Max.Y), c)
}

package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	columns    = 92
	charWidth  = 8.5 // of the font below, at 14 px
	lineHeight = 20
	margin     = 18
	bar        = 36 // the window's title

	typing  = 0.045 // seconds a character
	thought = 0.9   // seconds from a call to its result
	reading = 3.2   // seconds a scene stays
	between = 0.5
)

// A row is a line of a scene that comes into sight at a time.
type row struct {
	text  string
	class string
	at    float64 // seconds from the start
	typed float64 // seconds that typing it takes, 0 for all at once
}

type frame struct {
	rows       []row
	start, end float64
}

// draw gives the picture: an SVG that repeats by itself, without any script, as it
// is shown where pages do not run scripts.
func draw(label string, scenes []scene, played []answered) []byte {
	var frames []frame
	now, most := between, 0
	for _, s := range scenes {
		f := frame{start: now, rows: []row{{s.title, "title", now, 0}}}
		now += 0.6
		for range s.calls {
			one := played[0]
			played = played[1:]
			prompt := one.tool + "  " + one.shown
			took := float64(utf8.RuneCountInString(one.shown)) * typing
			f.rows = append(f.rows, row{}, row{prompt, "call", now, took})
			now += took + thought
			for _, line := range one.lines {
				class := "text"
				switch {
				case strings.HasPrefix(line, "Note:"), one.tool == "$" && strings.HasPrefix(line, "# "):
					class = "note"
				case one.tool == "$" && strings.HasPrefix(line, "+"):
					class = "more"
				case one.tool == "$" && strings.HasPrefix(line, "-"):
					class = "less"
				}
				for _, part := range wrap(line) {
					f.rows = append(f.rows, row{part, class, now, 0})
				}
			}
			now += thought
		}
		now += reading
		f.end = now
		now += between
		frames, most = append(frames, f), max(most, len(f.rows))
	}
	width, height := int(2*margin+columns*charWidth), bar+2*margin+most*lineHeight
	var style, body bytes.Buffer
	for i, f := range frames {
		fmt.Fprintf(&body, "<g class=\"s%d\">\n", i)
		visible(&style, fmt.Sprintf("s%d", i), f.start, f.end, now)
		for k, r := range f.rows {
			if r.text == "" {
				continue
			}
			name := fmt.Sprintf("r%d_%d", i, k)
			if r.typed > 0 {
				typed(&style, name, r, now)
			} else {
				visible(&style, name, r.at, f.end, now)
			}
			fmt.Fprintf(&body, "<text class=\"%s %s\" x=\"%d\" y=\"%d\" xml:space=\"preserve\">%s</text>\n", r.class, name, margin, bar+margin+14+k*lineHeight, escape(r.text))
		}
		body.WriteString("</g>\n")
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">
<style>
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.title { fill: #7ee787; font-weight: bold; } .call { fill: #79c0ff; } .text { fill: #c9d1d9; } .note { fill: #ffa657; } .more { fill: #7ee787; } .less { fill: #ff7b72; }
%s</style>
<rect width="100%%" height="100%%" rx="10" fill="#0d1117"/>
<circle cx="20" cy="18" r="6" fill="#ff5f57"/><circle cx="40" cy="18" r="6" fill="#febc2e"/><circle cx="60" cy="18" r="6" fill="#28c840"/>
%s</svg>
`, width, height, width, height, escape(label), style.String(), body.String())
	return out.Bytes()
}

// visible shows a class from one time to another of each turn.
func visible(style *bytes.Buffer, name string, from, to, turn float64) {
	p := func(t float64) float64 { return 100 * t / turn }
	fmt.Fprintf(style, "@keyframes %s { 0%%, %.2f%% { opacity: 0 } %.2f%%, %.2f%% { opacity: 1 } %.2f%%, 100%% { opacity: 0 } }\n.%s { animation: %s %.1fs infinite }\n",
		name, p(from), p(from)+0.01, p(to), p(to)+0.01, name, name, turn)
}

// typed uncovers a line character by character.
func typed(style *bytes.Buffer, name string, r row, turn float64) {
	p := func(t float64) float64 { return 100 * t / turn }
	fmt.Fprintf(style, "@keyframes %s { 0%%, %.2f%% { clip-path: inset(0 100%% 0 0); animation-timing-function: steps(%d) } %.2f%%, 100%% { clip-path: inset(0 0 0 0) } }\n.%s { animation: %s %.1fs infinite }\n",
		name, p(r.at), utf8.RuneCountInString(r.text), p(r.at+r.typed), name, name, turn)
}

// wrap breaks a line at blanks so that it fits.
func wrap(line string) (out []string) {
	const indent = "  "
	for utf8.RuneCountInString(line) > columns {
		at := strings.LastIndex(string([]rune(line)[:columns]), " ")
		if at <= len(indent) { // one long word
			at = len(string([]rune(line)[:columns]))
		}
		out = append(out, line[:at])
		line = indent + strings.TrimLeft(line[at:], " ")
	}
	return append(out, line)
}

func escape(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

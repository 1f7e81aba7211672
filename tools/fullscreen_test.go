package tools

import "testing"

func TestWithoutPainting(t *testing.T) {
	const on, off = "\x1b[?1049h", "\x1b[?1049l"
	for _, c := range []struct {
		name, head, tail string
		before, now      bool
		wantH, wantT     string
		painted          bool
	}{
		{name: "none", head: "a\nb", wantH: "a\nb"},
		{name: "shown and left", head: "a" + on + "drawn" + off + "b", wantH: "ab", painted: true},
		{name: "nothing drawn", head: "a" + on + off + "b", wantH: "ab"},
		{name: "shown before", head: "drawn" + off + "b", before: true, wantH: "b", painted: true},
		{name: "still shown", head: "a" + on + "drawn", now: true, wantH: "a", painted: true},
		{name: "all the time", head: "drawn", before: true, now: true, painted: true},
		{name: "twice", head: on + "x" + off + "a" + on + "y" + off, wantH: "a", painted: true},
		{name: "older modes", head: "\x1b[?47hx\x1b[?47la\x1b[?1047hx\x1b[?1047lb", wantH: "ab", painted: true},
		{name: "among others", head: "\x1b[?1;1049;25hx\x1b[?25;1049;1lb", wantH: "b", painted: true},
		{name: "reset", head: on + "x\x1bcb", wantH: "b", painted: true},
		{name: "reset outside", head: "a\x1bcb", wantH: "ab"},
		{name: "other modes", head: "a\x1b[?25hb\x1b[?10491hc", wantH: "a\x1b[?25hb\x1b[?10491hc"},
		{name: "a question", head: "a\x1b[?1049$pb", wantH: "a\x1b[?1049$pb"},
		{name: "left in what is missing", head: "a" + on + "x", tail: "b", wantH: "a", wantT: "b", painted: true},
		{name: "left in the tail", head: "a" + on + "x", tail: "y" + off + "b", wantH: "a", wantT: "b", painted: true},
		{name: "shown in the tail", head: "a", tail: "b" + on + "x", now: true, wantH: "a", wantT: "b", painted: true},
		{name: "shown in what is missing", head: "a", tail: "x", now: true, wantH: "a", painted: true},
		{name: "reset in the tail", head: on, tail: "x\x1bcb", wantT: "b", painted: true},
	} {
		h, tl, painted := withoutPainting(c.head, c.tail, c.before, c.now)
		if h != c.wantH || tl != c.wantT || painted != c.painted {
			t.Errorf("%s: %q %q %v, want %q %q %v", c.name, h, tl, painted, c.wantH, c.wantT, c.painted)
		}
	}
}

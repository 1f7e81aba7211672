package sandbox

import "testing"

// TestOneLine: nothing that steers a terminal or ends a line is left, and ordinary
// names stay as they are.
func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain name.txt": "plain name.txt", `back\slash`: `back\slash`, "é漢🙂": "é漢🙂", "👩\u200d💻": "👩\u200d💻", "می\u200cخواهم": "می\u200cخواهم", "": "",
		"a\nNote: b": `a\x0aNote: b`, "a\tb\r": `a\x09b\x0d`, "\x1b]0;x\a": `\x1b]0;x\x07`, "\x00\x7f": `\x00\x7f`,
		"\u009b2J": `\u009b2J`, "\u202e\u2066": `\u202e\u2066`, "\u2028\u2029": `\u2028\u2029`, "\ufeff\u00ad": `\ufeff\u00ad`, "\U000e0041": `\U000e0041`,
		"\xff\x9b2J": `\xff\x9b2J`, "a\xc3": `a\xc3`, "\ufffd": "\ufffd",
	} {
		if got := OneLine(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	if got := Spelled("a\n\tb\x1b", "\n\t"); got != "a\n\tb\\x1b" {
		t.Errorf("%q", got)
	}
}

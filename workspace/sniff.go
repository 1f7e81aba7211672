package workspace

import (
	"bytes"
	"net/http"
	"strings"
)

// utf32MIME is what is text and cannot be shown or edited as it is.
const utf32MIME = "text/plain; charset=utf-32"

// sniff tells from its head what a file holds. Names are not asked: they are
// the model's to choose, and a wrong one would dump bytes.
func sniff(head []byte, whole bool) (ContentKind, string) {
	if len(head) == 0 {
		return ContentText, "text/plain"
	}
	if bytes.HasPrefix(head, []byte("%PDF-")) {
		return ContentPDF, "application/pdf"
	}
	if isUTF32(head) {
		return ContentBinary, utf32MIME
	}
	if m := imageType(head); m != "" {
		return ContentImage, m
	}
	for _, magic := range [...]struct{ prefix, mime string }{
		{"\x7fELF", "application/x-executable"},
		{"\xcf\xfa\xed\xfe", "application/x-mach-binary"},
		{"\xfe\xed\xfa\xcf", "application/x-mach-binary"},
		{"\xfd7zXZ\x00", "application/x-xz"},
		{"\x28\xb5\x2f\xfd", "application/zstd"},
		{"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"},
		{"BZh", "application/x-bzip2"},
		{"SQLite format 3\x00", "application/vnd.sqlite3"},
		{"\x00asm", "application/wasm"},
	} {
		if strings.HasPrefix(string(head[:min(len(head), 16)]), magic.prefix) && !plain(head, whole) {
			return ContentBinary, magic.mime
		}
	}
	if plain(head, whole) {
		m := "text/plain"
		if ct, _, _ := strings.Cut(http.DetectContentType(head), ";"); ct == "text/html" || ct == "text/xml" {
			m = ct
		}
		return ContentText, m
	}
	m, _, _ := strings.Cut(http.DetectContentType(head), ";")
	if strings.HasPrefix(m, "text/") {
		m = "application/octet-stream"
	}
	return ContentBinary, m
}

// plain reports whether head looks like text in an encoding that is read:
// no NUL outside UTF-16, and few control characters.
func plain(head []byte, whole bool) bool {
	e, bom := detect(head, whole)
	if e.unit() == 2 {
		return bom || !strings.ContainsRune(decode(head[:len(head)&^1], e), 0)
	}
	const most = 8 << 10 // as git and rg look for NUL
	head = head[:min(len(head), most)]
	control := 0
	for _, c := range head {
		switch {
		case c == 0:
			return false
		case c < ' ' && c != '\n' && c != '\r' && c != '\t' && c != '\f' && c != '\b' && c != 0x1b:
			control++
		}
	}
	return control*20 <= len(head)
}

func imageType(head []byte) string {
	s := string(head[:min(len(head), 16)])
	switch {
	case strings.HasPrefix(s, "\x89PNG\r\n\x1a\n"):
		return "image/png"
	case strings.HasPrefix(s, "\xff\xd8\xff"):
		return "image/jpeg"
	case strings.HasPrefix(s, "GIF87a"), strings.HasPrefix(s, "GIF89a"):
		return "image/gif"
	case strings.HasPrefix(s, "RIFF") && len(s) >= 12 && s[8:12] == "WEBP":
		return "image/webp"
	case strings.HasPrefix(s, "BM") && len(head) >= 26 && bytes.Equal(head[6:10], make([]byte, 4)):
		return "image/bmp"
	case strings.HasPrefix(s, "II*\x00"), strings.HasPrefix(s, "MM\x00*"):
		return "image/tiff"
	}
	return ""
}

package sandbox

import "io"

// TarReader is the reader below an archive/tar.Reader, which takes the end of its input
// for that of the archive wherever a member ends. Of an archive that was cut there, what
// is missing would pass as never having been in it.
type TarReader struct {
	r io.Reader
	// read and zeros are the bytes that were read and how many of the last are 0, and
	// content is read when the last content had been.
	read, zeros, content int64
}

// tarBlock is what an archive is made of; one of zeros follows the last member, and by
// the standard a second one.
const tarBlock = 512

// NewTarReader reads from r.
func NewTarReader(r io.Reader) *TarReader { return &TarReader{r: r} }

func (t *TarReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.read += int64(n)
	i := n
	for i > 0 && p[i-1] == 0 {
		i--
	}
	if i > 0 {
		t.zeros = 0
	}
	t.zeros += int64(n - i)
	return n, err
}

// Content notes that a member's content was read.
func (t *TarReader) Content() { t.content = t.read }

// Whole says, when archive/tar has told the end, whether the archive has one.
func (t *TarReader) Whole() bool {
	padded := (t.content + tarBlock - 1) / tarBlock * tarBlock
	return t.zeros >= tarBlock && t.read-padded >= tarBlock
}

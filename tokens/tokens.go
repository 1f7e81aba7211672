// Package tokens counts text in the tokens of a language model and cuts text
// to a budget of them.
//
// Start at [Get], which gives an [Encoding] by name; [Encoding.Count] and
// [Encoding.Truncate] are what a tool server needs. [Encoding.NewCounter]
// counts a stream of any length in constant memory.
//
// The encodings are those OpenAI publishes for tiktoken: a regular expression
// splits text into pieces, and byte-pair merging splits every piece into
// tokens. Both are done here by hand, in time linear in the text whatever the
// text is. The published vocabularies are embedded as tables that are read
// where they lie: nothing is parsed, copied or built when a program starts or
// when an encoding is first used. The results are those of
// github.com/pkoukk/tiktoken-go, which the tests compare with.
//
// The package does not know special tokens: "<|endoftext|>" in a text is
// ordinary text, so that nothing a command prints can stand for more than
// itself.
//
// Text is UTF-8. A byte that is not part of a valid sequence is taken as
// U+FFFD, one for each such byte, as a conversion to []rune does.
package tokens

import (
	"io"
	"strings"
	"sync"
	"unicode/utf8"
	"unsafe"
)

//go:generate go run ./internal/gen -o data

// Encoding is one way to turn text into tokens. It is immutable and may be
// used by any number of goroutines.
type Encoding struct {
	name    string
	grammar *grammar
	vocab   *vocab
}

// The encodings, in the order they are offered. Get reads a header of 40
// bytes the first time a name is asked for and nothing else.
var encodings = [...]struct {
	name string
	get  func() *Encoding
}{
	{"o200k_base", lazy("o200k_base", &grammarO200k, &dataO200k, 0)},
	{"cl100k_base", lazy("cl100k_base", &grammarCL100k, &dataCL100k, 0)},
	{"p50k_base", lazy("p50k_base", &grammarP50k, &dataP50k, 0)},
	{"p50k_edit", lazy("p50k_edit", &grammarP50k, &dataP50k, 0)},
	// r50k_base is p50k_base without its last tokens, the long runs of spaces.
	{"r50k_base", lazy("r50k_base", &grammarP50k, &dataP50k, 50256)},
}

func lazy(name string, g *grammar, data *string, limit uint32) func() *Encoding {
	return sync.OnceValue(func() *Encoding {
		return &Encoding{name: name, grammar: g, vocab: openVocab(*data, limit)}
	})
}

// Get returns the encoding of that name: "o200k_base" (GPT-4o and later),
// "cl100k_base" (GPT-4), or one of the older "p50k_base", "p50k_edit" and
// "r50k_base". An unknown name is an error with the code invalid_argument
// that lists the known ones.
func Get(name string) (*Encoding, error) {
	for _, e := range encodings {
		if e.name == name {
			return e.get(), nil
		}
	}
	return nil, invalid("there is no encoding %q, use one of %s", name, strings.Join(Names(), ", "))
}

// Names lists the encodings Get knows, the preferred one first.
func Names() []string {
	names := make([]string, len(encodings))
	for i, e := range encodings {
		names[i] = e.name
	}
	return names
}

// Name returns the name Get knows the encoding by.
func (e *Encoding) Name() string { return e.name }

// Count returns the number of tokens in text.
func (e *Encoding) Count(text string) int {
	return total(e.parts(valid(text)))
}

// CountBytes is Count for bytes. It does not keep or change them.
func (e *Encoding) CountBytes(text []byte) int {
	return e.Count(unsafe.String(unsafe.SliceData(text), len(text)))
}

// CountReader counts the tokens of everything r gives until io.EOF, in memory
// that does not depend on how much that is. Any other error of r is returned
// with the count of what came before it.
func (e *Encoding) CountReader(r io.Reader) (int, error) {
	c := e.NewCounter()
	_, err := io.Copy(c, r)
	return c.Total(), err
}

// Encode returns the tokens of text. Decode gives back the same text, or, if
// it was not valid UTF-8, the text with U+FFFD for every invalid byte.
func (e *Encoding) Encode(text string) []int {
	text = valid(text)
	m := e.getMerger()
	defer putMerger(m)
	ids := make([]int, 0, len(text)/4+4)
	for p := 0; p < len(text); {
		end := e.grammar.split(text, p)
		if token, ok := e.vocab.whole(text[p:end]); ok {
			ids = append(ids, int(token))
		} else {
			for _, t := range e.vocab.merge(text[p:end], m) {
				ids = append(ids, int(t.token))
			}
		}
		p = end
	}
	return ids
}

// Decode returns the bytes the tokens stand for. They need not be valid UTF-8:
// one character may be spread over several tokens. A number that is no token
// of the encoding is an error with the code invalid_argument.
func (e *Encoding) Decode(ids []int) (string, error) {
	out := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		if !e.vocab.has(id) {
			return "", invalid("%d is not a token of %s, pass only what Encode of that encoding returned", id, e.name)
		}
		out = e.vocab.appendToken(out, uint32(id))
	}
	return string(out), nil
}

// valid returns text as the splitters need it, as UTF-8 without an error.
func valid(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	return string([]rune(text))
}

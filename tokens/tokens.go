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
	"strings"
	"sync"
	"unicode/utf8"
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
	{"o200k_base", lazy("o200k_base", &grammarO200k, &dataO200k)},
	{"cl100k_base", lazy("cl100k_base", &grammarCL100k, &dataCL100k)},
}

func lazy(name string, g *grammar, data *string) func() *Encoding {
	return sync.OnceValue(func() *Encoding {
		return &Encoding{name: name, grammar: g, vocab: openVocab(*data)}
	})
}

// Get returns the encoding of that name: "o200k_base" (GPT-4o and later) or
// "cl100k_base" (GPT-4). An unknown name is an error with the code
// invalid_argument that lists the known ones.
func Get(name string) (*Encoding, error) {
	for _, e := range encodings {
		if e.name == name {
			return e.get(), nil
		}
	}
	return nil, invalid("there is no encoding %q; use one of %s", name, strings.Join(Names(), ", "))
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

// valid returns text as the splitters need it, as UTF-8 without an error.
func valid(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	return string([]rune(text))
}

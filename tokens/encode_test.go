package tokens

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

// has tells whether id is a token.
func (v *vocab) has(id int) bool {
	if id < 0 || id >= int(v.limit) {
		return false
	}
	for i := 0; i < len(v.gaps); i += 4 {
		if int(load32(v.gaps, i)) == id {
			return false
		}
	}
	return true
}

func (v *vocab) appendToken(out []byte, token uint32) []byte {
	for token >= 256 {
		left, right := v.parts(token)
		out = v.appendToken(out, left)
		token = right
	}
	return append(out, v.split[5*token])
}

// whole is the token that is exactly s.
func (v *vocab) whole(s string) (token uint32, ok bool) {
	unit, ok := v.walk(s)
	if !ok {
		return 0, false
	}
	return v.tokenOf(unit), true
}

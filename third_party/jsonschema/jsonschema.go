// Package jsonschema stands in for github.com/santhosh-tekuri/jsonschema/v6,
// which mcp-go imports to check arguments against a tool's schema on request.
// The server never requests it: tools decode their own arguments and name what
// is wrong with them. The real package compiles the metaschemas of six JSON
// Schema drafts at package initialisation, a third of the time mcp-sandbox took
// to start (1.7 MB allocated in each start, 4 to 20 ms), so go.mod replaces it
// by this one.
//
// It declares what mcp-go v1.2 uses, and no more. Compile always fails, so a
// server that turned the check on would answer every call with the reason
// instead of accepting what it did not check.
package jsonschema

import (
	"encoding/json"
	"errors"
	"io"
)

// ErrNoValidator is what Compile returns.
var ErrNoValidator = errors.New("this build checks no JSON schemas: go.mod replaces the validator by a stand-in")

// Compiler compiles nothing.
type Compiler struct{}

// NewCompiler returns a compiler whose Compile fails.
func NewCompiler() *Compiler { return &Compiler{} }

// AddResource forgets doc.
func (*Compiler) AddResource(_ string, _ any) error { return nil }

// Compile returns ErrNoValidator.
func (*Compiler) Compile(_ string) (*Schema, error) { return nil, ErrNoValidator }

// Schema is never made.
type Schema struct{}

// Validate returns ErrNoValidator.
func (*Schema) Validate(_ any) error { return ErrNoValidator }

// ValidationError is never returned; mcp-go asks errors.As for it.
type ValidationError struct {
	InstanceLocation []string
	ErrorKind        any
	Causes           []*ValidationError
}

func (*ValidationError) Error() string { return ErrNoValidator.Error() }

// UnmarshalJSON reads one JSON value, numbers as json.Number.
func UnmarshalJSON(r io.Reader) (any, error) {
	d := json.NewDecoder(r)
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("invalid character after top-level value")
	}
	return v, nil
}

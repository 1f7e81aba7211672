package session

import "mcp-sandbox/workspace"

// MaxByteRange is the most bytes one call reads.
const MaxByteRange = workspace.MaxByteRange

// The requests of the file API under the session's name: package tools reaches
// files through a session only.
type (
	ReadRequest  = workspace.ReadRequest
	ByteRequest  = workspace.ByteRequest
	ByteResult   = workspace.ByteResult
	WriteRequest = workspace.WriteRequest
	WriteMode    = workspace.WriteMode
	ListRequest  = workspace.ListRequest
	EditRequest  = workspace.EditRequest
	FindRequest  = workspace.FindRequest

	SearchRequest  = workspace.SearchRequest
	ExtractRequest = workspace.ExtractRequest

	Ignored   = workspace.Ignored
	Unread    = workspace.Unread
	LineRange = workspace.LineRange
)

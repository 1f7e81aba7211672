package tools

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// Files of the workspace are resources, file:///PATH, so that a client can fetch
// what its agent has made without the model passing it on. A read goes the way of
// a read_file call: the same session, policy, records and counters.

// offerFiles adds the resources where read_file is offered.
func (s *Server) offerFiles(offered []tool) {
	i := slices.IndexFunc(offered, func(t tool) bool { return t.def.Name == "read_file" })
	if i < 0 {
		return
	}
	t := offered[i]
	t.run = readResource
	s.mcp.AddResourceTemplate(
		mcp.NewResourceTemplate("file:///{+path}", "file", mcp.WithTemplateDescription("A file of the workspace: its absolute path, or the path below the workspace.")),
		func(ctx context.Context, r mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
			return s.readURI(ctx, t, r.Params.URI)
		})
}

func (s *Server) readURI(ctx context.Context, t tool, uri string) ([]mcp.ResourceContents, error) {
	path, sandboxID, err := parseURI(uri)
	if err != nil {
		return nil, codedText(err)
	}
	fields := map[string]any{"path": path, "encoding": "base64"}
	if sandboxID != "" {
		fields[sandboxArgument] = sandboxID
	}
	if !CallerOf(ctx).Grants.allow(t) {
		return nil, codedText(refuse("permission_denied", "your token has no scope for read_file; log in with one that has"))
	}
	var req mcp.CallToolRequest
	req.Params.Name, req.Params.Arguments = t.def.Name, fields
	r, err := s.measured(ctx, t, req)
	if err != nil {
		s.log.Debug("a resource could not be read", "error", err)
		return nil, codedText(err)
	}
	if r.mime == "" {
		r.mime = "application/octet-stream"
	}
	if strings.HasPrefix(r.mime, "text/") && utf8.ValidString(r.text) {
		return []mcp.ResourceContents{mcp.TextResourceContents{URI: uri, MIMEType: r.mime, Text: r.text}}, nil
	}
	return []mcp.ResourceContents{mcp.BlobResourceContents{URI: uri, MIMEType: r.mime, Blob: base64.StdEncoding.EncodeToString([]byte(r.text))}}, nil
}

// codedText is an error as a protocol error tells it: what carries no code goes to
// the log alone.
func codedText(err error) error {
	var coded *sandbox.Error
	if errors.As(err, &coded) {
		return errors.New(coded.Code() + ": " + coded.Error())
	}
	if errors.Is(err, context.Canceled) {
		return errors.New("cancelled: the call was cancelled; nothing more happens")
	}
	return errors.New("internal: the call failed inside the server; its log has the cause")
}

// parseURI splits file:///PATH?sandbox_id=ID (RFC 8089).
func parseURI(uri string) (path, sandboxID string, err error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "file" || u.Host != "" || u.Path == "" || u.Fragment != "" {
		return "", "", refuse("invalid_argument", "the URI %q is not one of a file; write file:///PATH, with special characters escaped", uri)
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil || len(q) > len(q[sandboxArgument]) || len(q[sandboxArgument]) > 1 {
		return "", "", refuse("invalid_argument", "the URI %q has a query other than sandbox_id; leave it out", uri)
	}
	if strings.ContainsRune(u.Path, 0) {
		return "", "", refuse("invalid_argument", "the URI %q holds a NUL byte; remove it", uri)
	}
	return u.Path, q.Get(sandboxArgument), nil
}

// readResource reads the whole file; reply.text holds its bytes.
func readResource(ctx context.Context, c *call) (*reply, error) {
	path := c.required("path")
	if c.err != nil {
		return nil, c.err
	}
	f, err := c.readBytes(ctx, session.ByteRequest{Path: path})
	if codeOf(err) == "path_outside_workspace" || codeOf(err) == "not_found" {
		// Not from the root of the file system, then from that of the workspace.
		g, below := c.readBytes(ctx, session.ByteRequest{Path: strings.TrimLeft(path, "/")})
		if code := codeOf(below); code != "not_found" && code != "path_outside_workspace" {
			f, err = g, below
		}
	}
	if err != nil {
		return nil, err
	}
	if int64(len(f.Content)) < f.Size {
		return nil, refuse("too_large", "the file has %d bytes and a resource at most %d; read it in parts with read_file, encoding base64, offset and limit", f.Size, session.MaxByteRange)
	}
	return &reply{text: string(f.Content), mime: f.MIME}, nil
}

// fileURI names a file for resources/read.
func (c *call) fileURI(path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.session.Root(), path)
	}
	u := url.URL{Scheme: "file", Path: path}
	if id := c.name(sandboxArgument, ""); id != "" {
		u.RawQuery = url.Values{sandboxArgument: {id}}.Encode()
	}
	return u.String()
}

// linkTo is a resource link, for clients whose protocol has them.
func (c *call) linkTo(ctx context.Context, uri, name, mime string, size int64) *mcp.ResourceLink {
	const since = "2025-06-18"
	if server.RequestProtocolVersion(ctx) < since && c.request.Header.Get(mcp.HeaderProtocolVersion) < since {
		return nil
	}
	link := mcp.NewResourceLink(uri, name, "", mime)
	link.Size = &size
	return &link
}

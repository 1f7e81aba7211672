package tools

import (
	"context"
	"fmt"

	"github.com/mark3labs/mcp-go/mcp"
)

func exposePortTool() tool {
	return tool{
		sets: []string{"session"},
		def: mcp.NewTool("expose_port",
			mcp.WithDescription("Open a port of the session on the host's loopback; returns the URL."),
			hints(false, false, true, true),
			mcp.WithInteger("port", mcp.Required()),
		),
		run: exposePort,
	}
}

func exposePort(ctx context.Context, c *call) (*reply, error) {
	port := c.integer("port", 0, 1, 65535)
	if c.err != nil {
		return nil, c.err
	}
	p, err := c.session.ExposePort(ctx, port)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("%s leads to port %d of the session\n", p.URL, p.Port)
	if !p.Listening {
		text += fmt.Sprintf("Nothing listens on port %d inside yet: start a server there, the URL stays the same\n", p.Port)
	}
	return &reply{text: text, structured: map[string]any{
		"host": p.Host, "port": p.HostPort, "url": p.URL, "inside_port": p.Port, "listening": p.Listening,
	}}, nil
}

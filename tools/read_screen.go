package tools

import (
	"context"

	"github.com/mark3labs/mcp-go/mcp"
)

func readScreenTool() tool {
	return tool{
		sets: []string{"process"},
		def: mcp.NewTool("read_screen",
			mcp.WithDescription("Show a tty command's screen as it is, or was at its end."),
			hints(true, false, true, false),
			mcp.WithInteger("session_id", mcp.Required()),
			mcp.WithString("format", mcp.Enum("text", "png")),
		),
		run: readScreen,
	}
}

func readScreen(_ context.Context, c *call) (*reply, error) {
	id := c.processID()
	format := c.choice("format", "text", "png")
	if c.err != nil {
		return nil, c.err
	}
	screen, err := c.session.Screen(id)
	if err != nil {
		return nil, err
	}
	if format == "png" {
		png, err := screen.PNG()
		if err != nil {
			return nil, err
		}
		return &reply{image: png, mime: "image/png"}, nil
	}
	text := screen.Text()
	return &reply{text: text, structured: map[string]any{"screen": text}}, nil
}

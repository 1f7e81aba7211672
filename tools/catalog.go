package tools

import "github.com/mark3labs/mcp-go/mcp"

// allTools is every tool, what a model needs most first. Over the wire the
// library sorts them by name.
func allTools(o Options) []tool {
	list := []tool{
		execCommandTool(o),
		writeStdinTool(o),
		readOutputTool(),
		readScreenTool(),
		listProcessesTool(),
		killProcessTool(),
		readFileTool(),
		writeFileTool(),
		editFileTool(),
		applyPatchTool(),
		lsTool(),
		findFilesTool(),
		searchTextTool(),
		mkdirTool(),
		rmTool(),
		mvTool(),
		extractArchiveTool(),
		snapshotCreateTool(),
		snapshotListTool(),
		snapshotDiffTool(),
		snapshotRestoreTool(),
		sessionInfoTool(),
	}
	// Without a port that may be exposed the tool could only refuse, and every
	// client would pay for its description.
	if o.expose {
		list = append(list, exposePortTool())
	}
	if o.staged {
		list = append(list, stageDiffTool())
	}
	if o.stageApply {
		list = append(list, stageApplyTool(), stageDiscardTool())
	}
	if o.Remote {
		list = append(list, sessionOpenTool(), sessionCloseTool(o))
	}
	for i := range list {
		// An object without properties is an open one, which clients that want
		// closed schemas (OpenAI's strict mode) cannot take.
		if s := &list[i].def.InputSchema; len(s.Properties) == 0 {
			s.AdditionalProperties = false
		}
	}
	return list
}

// hints sets all four annotations. Clients act on them: a missing hint counts
// as destructive and open-world in some, and only read-only tools run in
// parallel or without asking in others. No title: the names say it, and the list
// has a budget.
func hints(readOnly, destructive, idempotent, openWorld bool) mcp.ToolOption {
	return func(t *mcp.Tool) {
		t.Annotations = mcp.ToolAnnotation{
			ReadOnlyHint:    &readOnly,
			DestructiveHint: &destructive,
			IdempotentHint:  &idempotent,
			OpenWorldHint:   &openWorld,
		}
	}
}

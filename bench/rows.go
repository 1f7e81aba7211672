package main

// rows are the report's figures in its order. behind is what is known of why
// ours is not first there; the report shows it only when ours is not.
func rows() []row {
	return []row{
		{"start", "Start to ready", "ms", "From exec to the reply to `initialize`.", "", 0},
		{"idle_start", "Memory when idle, after the start", "MiB", "Proportional set size of the whole process tree.", "", 0},
		{"idle_command", "Memory when idle, after a first command", "MiB", "The same after one `true`; for mcp-sandbox with its sandbox, which the first command starts.", "", 0},
		{"one", "One command", "ms", "`true`, from request to answer; for a wrapper from exec to exit. The first commands of mcp-sandbox in quick succession each wait for a snapshot (undo).",
			"A wrapper that only calls unshare and exec has less to do than a server that decodes a request, keeps the output and answers it.", 0},
		{"eight", "8 commands at once", "ms", "8 times `true`, until the last is answered.", "", 0},
		{"sixtyfour", "64 commands at once", "ms", "64 times `true`, until the last is answered.", "", 0},
		{"terminal", "Terminal: type a line, see it", "ms", "A line typed to `cat` on a pseudo-terminal, until the reply that shows it. mcp-sandbox answers when the kernel says that the program waits for input.", "", 0},
		{"read_small", "Read 14 KB", "ms", "The whole file to the client.",
			"mcp-sandbox decodes the text, checks it for UTF-8 and counts its tokens, to keep the reply in the model's budget; a server that sends bytes as they are does not.", 0},
		{"read_middle", "Read 130 KB", "ms", "The whole file to the client, the budget raised where there is one.",
			"mcp-sandbox counts the text's tokens to keep the reply in the model's budget; a server that sends bytes as they are does not.", 0},
		{"read_big", "Read 10 MB", "ms", "The whole file to the client: mcp-sandbox in pages, as its largest reply is 1,000,000 tokens; the others in one.",
			"mcp-sandbox counts the tokens of all 10 MB, and reads in several requests so that no reply exceeds 1,000,000 tokens; the others send the file as it is, in one reply of 10 MB.", 0},
		{"search_text", "Search in files", "ms", "A string that occurs in few lines of the Go source tree; all of them reach the client.", "", 0},
		{"find_names", "Find files by name", "ms", "Names in the Go source tree; all of them reach the client.", "", 0},
		{"flood", "40 MB of output: time", "ms", "`yes | head -c 40000000`, until the answer, or the exit of a wrapper.",
			"A wrapper's command writes straight into the client's pipe: no process reads, decodes, counts or cuts it, and the client has all 40 MB to deal with.", 0},
		{"flood_memory", "40 MB of output: peak memory", "MiB", "Largest proportional set size of the peer's tree meanwhile, sampled every 30 ms.",
			"A wrapper holds no output at all; the client must.", 0},
		{"flood_bytes", "40 MB of output: what reaches the client", "kB", "Bytes of the answer on the wire.", "", 0},
		{"tools_bytes", "Size of tools/list", "bytes", "The result as sent. What a server offers differs: it is the price of its tools, not of the same tools.",
			"More tools: commands, terminals, snapshots and ports next to files.", 0},
		{"tools_tokens", "Size of tools/list in tokens", "tokens", "The same, counted with o200k_base.",
			"More tools: commands, terminals, snapshots and ports next to files.", 0},
		{"end", "End a tree that resists: time", "ms", "A shell with children in sessions of their own, all deaf to SIGTERM, ended in the peer's own way (`kill_process`, `force_terminate`, SIGTERM to a wrapper), until none is left, 3 s at most.",
			"When a wrapper dies, the kernel ends its PID namespace, which holds one command. The commands of a session share a namespace and outlive each other, so the members of one tree have to be found.", ms(goneLimit)},
		{"end_left", "End a tree that resists: processes left after 3 s", "", "", "", 0},
		{"killed", "SIGKILL of the peer: time", "ms", "The same tree; the server or wrapper itself is killed with SIGKILL, until none of the tree is left, 3 s at most.",
			"When the server dies, the kernel ends three Go programs with some fifteen threads each: the server, the init of the session, and an init prepared for the next session. It frees the memory and files of an init before it kills the processes below it. Two bare Go programs, one of them init of the same tree in namespaces of its own, take 1.1 to 1.5 times as long as bubblewrap. Most of the rest is the watch over protected paths: an init ends only when the kernel has freed its inotify marks (without the watch the same tree is gone after 5 ms instead of 15).", ms(goneLimit)},
		{"killed_left", "SIGKILL of the peer: processes left after 3 s", "", "", "", 0},
	}
}

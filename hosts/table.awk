# Writes docs/hosts.md from the table of guests (rows) and what was seen in each
# (seen/NAME): awk -f table.awk rows
BEGIN {
  FS = "|"
  while ((getline line < "preface.md") > 0) print line
}
/^#/ { next }
{
  n++
  name[n] = $1; title[n] = $7; what[n] = $7; arguments[n] = $6; memory[n] = $4
}
function cell(s) { gsub(/\|/, "\\|", s); return s }
function flush_row() {
  if (as == "") return
  seen = ""
  if (failures != "") seen = failures
  if (good > 0) seen = seen (seen == "" ? "" : "; ") (bad ? good " other checks hold" : (good == 1 ? "1 check holds" : "all " good " checks hold"))
  if (notes != "") seen = seen (seen == "" ? "" : "; ") notes
  printf "| %s | %s | %s | %s |\n", cell(as), level == "" ? "-" : level, ms == "" ? "-" : ms, cell(seen)
  as = ""
}
END {
  for (i = 1; i <= n; i++) {
    file = "seen/" name[i]
    printf "\n## %s (`%s`)\n\n", title[i], name[i]
    as = ""; started = 0
    while ((getline line < file) > 0) {
      key = line; sub(/ .*/, "", key)
      value = line; sub(/^[^ ]* /, "", value)
      if (key == "kernel") { kernel = value }
      else if (key == "took") {
        printf "Linux %s%s%s. Took %d min.\n\n", kernel, memory[i] == "-" ? ", no emulation" : ", " memory[i] " MB", arguments[i] == "" ? "" : ", `" arguments[i] "`", (value + 59) / 60
        print "| As | Level | ms / plain | Seen |\n|---|---|---|---|"
        started = 1
      }
      else if (key == "row") { flush_row(); as = value; level = ms = notes = failures = ""; good = bad = 0 }
      else if (key == "level") level = value
      else if (key == "ms") { split(value, m, " "); ms = m[1] " / " m[2] }
      else if (key == "note") notes = notes (notes == "" ? "" : "; ") value
      else if (key == "ok") { good++; if (!(value in checked)) { checked[value] = 1; order[++c] = value } }
      else if (key == "FAIL") {
        if (as == "") as = "the guest"
        bad++; failures = failures (failures == "" ? "" : "; ") "**FAIL** " value
      }
    }
    close(file)
    flush_row()
    if (!started) print "Not tried: this guest has not been run to its end."
  }
  print ""
  while ((getline line < "untried.md") > 0) print line
  print "\n## The checks\n\nEach row above counts those of these that apply to it:\n"
  for (i = 1; i <= c; i++) printf "%s%s", order[i], i < c ? "; " : ".\n"
}

package store

import (
	"io/fs"
	"regexp"
	"strconv"
	"strings"
)

// statement is a statement that changes something.
type statement struct {
	text string
	args []any
}

// form is what is known of a statement from its text.
type form struct {
	table string
	// fixed are the columns whose value all rows that the statement touches share, before and after it: by name, the
	// number of the argument.
	fixed map[string]int
	adds  bool // it only adds rows

	values string         // the row of a statement that adds one; empty for others
	before string         // the text up to it
	after  string         // and after it
	joined map[int]string // texts that add so many rows
}

// forms reads the texts of statements, each once. It is for one goroutine.
type forms struct {
	known     map[string]*form
	looks     map[string]map[string][]condition
	keys      map[string]string // the first column of each table
	written   *regexp.Regexp
	insertion *regexp.Regexp
	parameter *regexp.Regexp
	equals    *regexp.Regexp
	assigned  *regexp.Regexp
	from      *regexp.Regexp
}

// condition is one of a read: a column that must be equal to an argument.
type condition struct {
	column string
	arg    int
}

func newForms() *forms {
	f := &forms{
		known: map[string]*form{}, looks: map[string]map[string][]condition{}, keys: map[string]string{},
		written:   regexp.MustCompile(`^(?:INSERT INTO|UPDATE|DELETE FROM) (\w+)`),
		insertion: regexp.MustCompile(`^(INSERT INTO \w+ \(([\w, ]+)\)\s+VALUES )(\(([^()]*)\))`),
		parameter: regexp.MustCompile(`\$\d+`),
		equals:    regexp.MustCompile(`(?:(\w+)\.)?(\w+) = \$(\d+)`),
		assigned:  regexp.MustCompile(`(\w+) = `),
		from:      regexp.MustCompile(`\b(?:FROM|JOIN) (\w+)`),
	}
	schema := regexp.MustCompile(`CREATE TABLE (\w+) \(\s+(\w+)`)
	_ = fs.WalkDir(migrations, ".", func(path string, entry fs.DirEntry, err error) error { // embedded: it can be read
		if err == nil && !entry.IsDir() {
			text, _ := migrations.ReadFile(path)
			for _, found := range schema.FindAllStringSubmatch(string(text), -1) {
				f.keys[found[1]] = found[2]
			}
		}
		return nil
	})
	return f
}

func (f *forms) of(text string) *form {
	if known := f.known[text]; known != nil {
		return known
	}
	out := &form{fixed: map[string]int{}, joined: map[int]string{}}
	f.known[text] = out
	if found := f.written.FindStringSubmatch(text); found != nil {
		out.table = found[1]
	}
	if row := f.insertion.FindStringSubmatch(text); row != nil {
		f.insert(out, text, row)
		return out
	}
	if strings.HasPrefix(text, "INSERT ") {
		return out // of rows that are read: nothing is known of them
	}
	set, where, _ := strings.Cut(text, " WHERE ")
	for _, found := range f.equals.FindAllStringSubmatch(where, -1) {
		out.fixed[found[2]] = argument(found[3])
	}
	f.unfix(out, set)
	return out
}

// insert reads an INSERT of one row. What an upsert assigns may have had another value before.
func (f *forms) insert(out *form, text string, row []string) {
	rest := text[len(row[0]):]
	if rest == "" || rest == " ON CONFLICT DO NOTHING" {
		out.adds, out.before, out.values, out.after = true, row[1], row[3], rest
	}
	values := strings.Split(row[4], ",")
	for i, column := range strings.Split(row[2], ",") {
		if value := strings.TrimSpace(values[i]); strings.HasPrefix(value, "$") {
			out.fixed[strings.TrimSpace(column)] = argument(value[1:])
		}
	}
	if _, set, ok := strings.Cut(rest, " SET "); ok {
		f.unfix(out, set)
	}
}

func (f *forms) unfix(out *form, set string) {
	for _, found := range f.assigned.FindAllStringSubmatch(set, -1) {
		delete(out.fixed, found[1])
	}
}

// argument is the index of the argument that $n stands for.
func argument(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n - 1
}

// looksOf finds the tables of a read and what it looks for in each.
func (f *forms) looksOf(text string) map[string][]condition {
	if known := f.looks[text]; known != nil {
		return known
	}
	out := map[string][]condition{}
	for _, found := range f.from.FindAllStringSubmatch(text, -1) {
		out[found[1]] = nil
	}
	for _, found := range f.equals.FindAllStringSubmatch(text, -1) {
		for table := range out {
			if found[1] == "" || found[1] == table {
				out[table] = append(out[table], condition{found[2], argument(found[3])})
			}
		}
	}
	f.looks[text] = out
	return out
}

// unlogged reports whether a read is of what changes without a move of the head.
func (f *forms) unlogged(text string) bool {
	looks := f.looksOf(text)
	_, beats := looks["heartbeats"]
	_, keys := looks["idempotency"]
	return beats || keys
}

// group makes of statements fewer that do the same: rows that are added to one table stand in one statement. No statement of
// the store reads one table and writes another, so the order matters only within a table, and there it is kept.
func (f *forms) group(statements []statement) []statement {
	var tables []string
	byTable := map[string][]statement{}
	for _, s := range statements {
		table := f.of(s.text).table
		if byTable[table] == nil {
			tables = append(tables, table)
		}
		byTable[table] = append(byTable[table], s)
	}
	out := make([]statement, 0, len(statements))
	for _, table := range tables {
		for rest := byTable[table]; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].text == rest[0].text {
				n++
			}
			out = f.appendRun(out, rest[:n])
			rest = rest[n:]
		}
	}
	return out
}

// appendRun joins statements of the same text. The numbers of rows are few, so that each text stays prepared.
func (f *forms) appendRun(out, same []statement) []statement {
	form := f.of(same[0].text)
	if !form.adds {
		return append(out, same...)
	}
	for _, rows := range []int{16, 4} {
		for ; len(same) >= rows; same = same[rows:] {
			args := make([]any, 0, rows*len(same[0].args))
			for _, row := range same[:rows] {
				args = append(args, row.args...)
			}
			out = append(out, statement{f.join(form, rows, len(same[0].args)), args})
		}
	}
	return append(out, same...)
}

// join is the text that adds so many rows of so many arguments.
func (f *forms) join(one *form, rows, width int) string {
	if text, ok := one.joined[rows]; ok {
		return text
	}
	all := make([]string, rows)
	for i := range all {
		all[i] = f.parameter.ReplaceAllStringFunc(one.values, func(p string) string {
			return "$" + strconv.Itoa(argument(p[1:])+1+i*width)
		})
	}
	one.joined[rows] = one.before + strings.Join(all, ", ") + one.after
	return one.joined[rows]
}

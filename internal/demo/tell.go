package demo

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// teller tells a story, line by line.
type teller struct {
	out   io.Writer
	style Style
	scene int
}

func (t *teller) say(format string, args ...any) { fmt.Fprintf(t.out, format+"\n", args...) }

func (t *teller) title(text string) {
	t.say("\n%s%s%s", t.style.Bold, text, t.style.Off)
}

// next begins a scene.
func (t *teller) next(title string) {
	t.scene++
	t.title(fmt.Sprintf("%d  %s", t.scene, title))
}

// does tells what somebody does, in their words where they speak.
func (t *teller) does(who, what string) { t.say("   %-12s %s", who, plain(what)) }

func (t *teller) good(format string, args ...any) { t.mark(t.style.Good, "✓", format, args...) }
func (t *teller) asks(format string, args ...any) { t.mark(t.style.Ask, "?", format, args...) }
func (t *teller) bad(format string, args ...any)  { t.mark(t.style.Bad, "✗", format, args...) }

func (t *teller) mark(color, sign, format string, args ...any) {
	t.say("   %s%s %s%s", color, sign, plain(fmt.Sprintf(format, args...)), t.style.Off)
}

func (t *teller) note(format string, args ...any) {
	t.say("     %s%s%s", t.style.Dim, plain(fmt.Sprintf(format, args...)), t.style.Off)
}

// plain keeps what agents wrote from steering the terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

package bbolt

import (
	"fmt"
	"io"
	"log"
	"os"
)

// Logger takes what a database has to say.
type Logger interface {
	Debug(v ...interface{})
	Debugf(format string, v ...interface{})

	Error(v ...interface{})
	Errorf(format string, v ...interface{})

	Info(v ...interface{})
	Infof(format string, v ...interface{})

	Warning(v ...interface{})
	Warningf(format string, v ...interface{})

	Fatal(v ...interface{})
	Fatalf(format string, v ...interface{})

	Panic(v ...interface{})
	Panicf(format string, v ...interface{})
}

// silent is the logger of a database that was given none.
var silent = &DefaultLogger{Logger: log.New(io.Discard, "", 0)}

// DefaultLogger is a Logger on top of one of package log. Debugging is off until
// EnableDebug.
type DefaultLogger struct {
	*log.Logger
	debug bool
}

// callerDepth is how far the line that logs is from Output.
const callerDepth = 3

func (l *DefaultLogger) say(level, text string) { _ = l.Output(callerDepth, level+": "+text) }

// EnableTimestamps puts date and time before each line.
func (l *DefaultLogger) EnableTimestamps() { l.SetFlags(l.Flags() | log.Ldate | log.Ltime) }

// EnableDebug lets Debug and Debugf through.
func (l *DefaultLogger) EnableDebug() { l.debug = true }

func (l *DefaultLogger) Debug(v ...interface{}) {
	if l.debug {
		l.say("DEBUG", fmt.Sprint(v...))
	}
}

func (l *DefaultLogger) Debugf(format string, v ...interface{}) {
	if l.debug {
		l.say("DEBUG", fmt.Sprintf(format, v...))
	}
}

func (l *DefaultLogger) Info(v ...interface{}) { l.say("INFO", fmt.Sprint(v...)) }

func (l *DefaultLogger) Infof(format string, v ...interface{}) {
	l.say("INFO", fmt.Sprintf(format, v...))
}

func (l *DefaultLogger) Error(v ...interface{}) { l.say("ERROR", fmt.Sprint(v...)) }

func (l *DefaultLogger) Errorf(format string, v ...interface{}) {
	l.say("ERROR", fmt.Sprintf(format, v...))
}

func (l *DefaultLogger) Warning(v ...interface{}) { l.say("WARN", fmt.Sprint(v...)) }

func (l *DefaultLogger) Warningf(format string, v ...interface{}) {
	l.say("WARN", fmt.Sprintf(format, v...))
}

// Fatal logs and ends the program.
func (l *DefaultLogger) Fatal(v ...interface{}) {
	l.say("FATAL", fmt.Sprint(v...))
	os.Exit(1)
}

// Fatalf logs and ends the program.
func (l *DefaultLogger) Fatalf(format string, v ...interface{}) {
	l.say("FATAL", fmt.Sprintf(format, v...))
	os.Exit(1)
}

// Panic logs and panics.
func (l *DefaultLogger) Panic(v ...interface{}) { l.Logger.Panic(v...) }

// Panicf logs and panics.
func (l *DefaultLogger) Panicf(format string, v ...interface{}) { l.Logger.Panicf(format, v...) }

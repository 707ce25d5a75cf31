// How a client program talks to the tests; see clients/protocol.py.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

type fields map[string]string

func (f fields) number(name string) int {
	value, err := strconv.Atoi(f[name])
	must(err)
	return value
}

var input = bufio.NewReaderSize(os.Stdin, 1<<20)

func nextLine() []string {
	line, err := input.ReadString('\n')
	if err != nil {
		os.Exit(0)
	}
	return strings.Split(strings.TrimSuffix(line, "\n"), "\t")
}

func read(words []string) fields {
	found := fields{}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		found[key] = value
	}
	return found
}

// call asks the operator of the service.
func call(command string, pairs ...any) fields {
	words := []string{"call", command}
	for at := 0; at < len(pairs); at += 2 {
		words = append(words, fmt.Sprintf("%v=%v", pairs[at], pairs[at+1]))
	}
	fmt.Println(strings.Join(words, "\t"))
	answer := nextLine()
	if answer[0] != "ok" {
		panic(strings.Join(answer, " "))
	}
	return read(answer[1:])
}

func serve(scenarios map[string]func(fields)) {
	for {
		line := nextLine()
		fmt.Printf("done\t%s\n", outcome(scenarios[line[1]], read(line[2:])))
	}
}

func outcome(scenario func(fields), options fields) (result string) {
	defer func() {
		if fault := recover(); fault != nil {
			text := strings.Join(strings.Fields(fmt.Sprint(fault)), " ")
			result = "failed\t" + text
		}
	}()
	scenario(options)
	return "passed"
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func check(holds bool, what string, values ...any) {
	if !holds {
		panic(fmt.Sprintf(what, values...))
	}
}

func until(what string, holds func() bool) {
	end := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(end) {
			panic("waited in vain for " + what)
		}
		time.Sleep(25 * time.Millisecond)
	}
}

func main() {
	if os.Args[1] == "go-amqp" {
		serve(amqpScenarios)
	}
	serve(azureScenarios)
}

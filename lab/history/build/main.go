// Is a history of netmaster's objects linearisable? Each key is a register, judged by itself by porcupine (github.com/anishathalye/porcupine,
// after Lowe, "Testing for linearizability", and Horn and Kroening, "Faster linearizability checking via P-compositionality").
//
// Reads operations from standard input, one JSON object a line (operation, below), and writes one line of JSON for each key of which it does not hold:
// {"key": "default:r1", "result": "Illegal"}; "Unknown" where a minute was too short to tell. Its exit status is 0 in either case.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

// operation is one request, from when it was sent to when its answer was there; both in microseconds of one clock.
type operation struct {
	Key  string `json:"key"`
	Call int64  `json:"call"`
	// Return is left out where no answer has come: it may have been done at any time since, or never.
	Return *int64 `json:"return"`
	// Do is read, write or delete.
	Do string `json:"do"`
	// Value is what a write writes. No two write the same.
	Value int64 `json:"value"`
	// Before is what the answer says was there: 0 where that was nothing. A read answers it, a write and a delete what they took the place of.
	// Of a delete, and of a write of which the answer does not say what it was, -1: something was there.
	Before int64 `json:"before"`
}

const something = -1

// step says whether the answer may be, and what is there afterwards.
func step(state, input, _ interface{}) (bool, interface{}) {
	is, op := state.(int64), input.(operation)
	if op.Return != nil && op.Before != is && !(op.Before == something && is != 0) {
		return false, state
	}
	switch op.Do {
	case "write":
		return true, op.Value
	case "delete":
		return true, int64(0)
	}
	return true, state
}

var register = porcupine.Model{
	Init: func() interface{} { return int64(0) },
	Step: step,
}

func main() {
	byKey := map[string][]operation{}
	var last int64
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var op operation
		if err := json.Unmarshal(lines.Bytes(), &op); err != nil {
			fmt.Fprintf(os.Stderr, "history: line %d: %v\n", n, err)
			os.Exit(3)
		}
		last = max(last, op.Call)
		if op.Return != nil {
			last = max(last, *op.Return)
		}
		byKey[op.Key] = append(byKey[op.Key], op)
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintf(os.Stderr, "history: %v\n", err)
		os.Exit(3)
	}
	keys := make([]string, 0, len(byKey))
	for key := range byKey {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		history := make([]porcupine.Operation, len(byKey[key]))
		for i, op := range byKey[key] {
			history[i] = porcupine.Operation{Input: op, Call: op.Call, Return: last + 1}
			if op.Return != nil {
				history[i].Return = *op.Return
			}
		}
		if result := porcupine.CheckOperationsTimeout(register, history, time.Minute); result != porcupine.Ok {
			json.NewEncoder(os.Stdout).Encode(map[string]string{"key": key, "result": string(result)})
		}
	}
}

// What a container runtime does with libcni: one command for many containers at once.
//
//	runtime ADD|CHECK|DEL LIST CACHE PLUGINS CONTAINER=NETNS…
//
// LIST is the file of a configuration list, CACHE the folder in which libcni keeps results, and PLUGINS the folders of the plugins,
// with colons between them. RUNTIME_CONFIG in the environment is the runtimeConfig, as JSON. It prints an outcome for each container.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

type outcome struct {
	Container string       `json:"container"`
	Ms        float64      `json:"ms"`
	Code      uint         `json:"code"`
	Msg       string       `json:"msg"`
	Result    types.Result `json:"result,omitempty"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 4 {
		return errors.New("usage: runtime ADD|CHECK|DEL LIST CACHE PLUGINS CONTAINER=NETNS…")
	}
	list, err := libcni.ConfListFromFile(args[1])
	if err != nil {
		return err
	}
	capabilities := map[string]interface{}{}
	if text := os.Getenv("RUNTIME_CONFIG"); text != "" {
		if err := json.Unmarshal([]byte(text), &capabilities); err != nil {
			return err
		}
	}
	cni := libcni.NewCNIConfigWithCacheDir(strings.Split(args[3], ":"), args[2], nil)
	outcomes := make([]outcome, len(args)-4)
	var done sync.WaitGroup
	for i, arg := range args[4:] {
		container, netns, _ := strings.Cut(arg, "=")
		done.Add(1)
		go func(to *outcome) {
			defer done.Done()
			rt := &libcni.RuntimeConf{ContainerID: container, NetNS: netns, IfName: "eth0", CapabilityArgs: capabilities}
			began := time.Now()
			result, err := command(cni, args[0], list, rt)
			*to = outcome{Container: container, Ms: float64(time.Since(began).Microseconds()) / 1000, Result: result}
			var failure *types.Error
			if errors.As(err, &failure) {
				to.Code, to.Msg = failure.Code, failure.Msg
			} else if err != nil {
				to.Code, to.Msg = types.ErrInternal, err.Error()
			}
		}(&outcomes[i])
	}
	done.Wait()
	return json.NewEncoder(os.Stdout).Encode(outcomes)
}

func command(cni *libcni.CNIConfig, name string, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) (types.Result, error) {
	switch name {
	case "ADD":
		return cni.AddNetworkList(context.Background(), list, rt)
	case "CHECK":
		return nil, cni.CheckNetworkList(context.Background(), list, rt)
	case "DEL":
		return nil, cni.DelNetworkList(context.Background(), list, rt)
	}
	return nil, fmt.Errorf("%q is not known: ADD, CHECK, DEL", name)
}

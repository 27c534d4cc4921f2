/** Until when what programs follow goes on: until they stop, or the switch is closed. */
export class FollowingUntil {
  readonly #closed = new AbortController();

  /** @param own ends it earlier */
  signal(own?: AbortSignal): AbortSignal {
    return own ? AbortSignal.any([own, this.#closed.signal]) : this.#closed.signal;
  }

  end(): void {
    this.#closed.abort();
  }
}

/** Manifests as programs write them. */

/** A resource. The schema of its kind says what is accepted: `jsonSchemas()`, or `weft schema KIND`. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string } & ManifestPlace;
  readonly spec?: object;
}

/** What metadata may have besides a name. */
export interface ManifestPlace {
  /** Of a namespaced kind; `default` if it is not given. */
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

export function declared(apiVersion: string, kind: string, name: string, spec: object, place: ManifestPlace): Manifest {
  return { apiVersion, kind, metadata: { ...place, name }, spec };
}

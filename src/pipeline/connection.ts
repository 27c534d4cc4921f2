/**
 * Connection: which connection a frame belongs to, whether it is bridged or routed. Only connections whose
 * addresses are translated are tracked, and whether a frame can belong to one of those follows from its
 * route. So route looks them up, and this stage lets every frame through.
 */
import { next, type Entered, type Stage } from './stage.ts';
import { text } from './text.ts';

const because = text`only translated connections are tracked, and route finds those`;

export const connection: Stage<Entered, Entered> = (_view, known) => next(because, known);

def beam_search(*a): raise NotImplementedError

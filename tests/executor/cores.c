/* cores ROOT THREADS COUNT: the fast ones of this many cores, or "all". */
#include "cores.h"

#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (count != 4)
        return 2;
    for (int core = 0; core < atoi(words[3]); core++)
        CPU_SET(core, &set);
    if (!cores_keep_fast(words[1], atoi(words[2]), &set)) {
        puts("all");
        return 0;
    }
    for (int core = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, &set))
            printf("%d ", core);
    return 0;
}
